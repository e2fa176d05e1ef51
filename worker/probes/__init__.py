"""Probes: what a test button sends, tried once, beside the runs and through the same doors.

prober.py claims them and writes their results, watched.py notes what goes through a door, shown.py
says what of that its user sees.
"""
