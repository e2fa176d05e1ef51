"""The encryption keys of an installation: which of them its database needs, and how to change them.

texts.py and places.py are pure. columns.py reads and writes the columns of
`shared/models/sealed.py`, walk.py goes through one, and survey.py counts what is found there;
rotation.py goes through all of them, round after round. checks.py says whether a start has the keys
that it must have.
"""
