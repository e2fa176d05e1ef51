"""What speaks to PostgreSQL: connections that are bounded in time, statements that are planned
once, the group commit, partitions.
"""
