"""The only door through which a connection leaves."""
