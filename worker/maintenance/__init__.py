"""The duties that keep the system whole, one file each.

Every worker process does all of them on a timer of its own; there is no scheduler to lose. Each
pass runs in one transaction under an advisory lock, so that two processes never do the same duty at
once. A duty is a class with a name, an interval and do(), which returns how much it repaired.
"""
