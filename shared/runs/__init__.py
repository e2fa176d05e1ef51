"""Statements that move runs: settling, cancelling, replaying."""
