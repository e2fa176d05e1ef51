"""What the shell and the views tell each other: keys of the WSGI environment.

Under plain WSGI, as in Flask's test client, none of them is there, and everything works without.
"""

REQUEST_ID = "pointsman.request_id"
"""The id of this request, for the log and the answer."""

AWAITED = "pointsman.awaited"
"""A list for the coroutine that makes the answer (api/awaited.py)."""

PATIENCE = "pointsman.patience"
"""Whether the caller still waits (api/patience.py). Not there where the view waits for nothing."""

BODY = "pointsman.body"
"""The request's body, whole, as in `wsgi.input`."""

HEADERS = "pointsman.headers"
"""The request's headers as they came: pairs of bytes, names in lower case, repeated ones apart."""
