"""Each noun's verbs, one file a noun: create, find, page, change, delete.

A function takes the unit of work, the owner and typed models, and returns typed models; it raises
shared.errors. The management API, the start-up and the command line call the same functions.
Nothing here knows HTTP.
"""
