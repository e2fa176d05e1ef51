"""The encryption keys of an installation: which of them its database needs, and how to change them.

texts.py is pure. columns.py reads and writes the columns of `shared/models/sealed.py`; rotation.py
walks through them. checks.py says whether a start has the keys that it must have.
"""
