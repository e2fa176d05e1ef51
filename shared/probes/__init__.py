"""Probes: what a test button sends, as the API and the workers both see it.

The API writes a row and hints it, any worker claims it and sends what it says, once, and the API
shows the result. moves.py has every statement that moves a probe, request.py what a row asks for.
"""
