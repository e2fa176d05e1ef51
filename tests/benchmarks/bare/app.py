"""The bare pipeline's API: a Flask view that hands the body to Celery, run by Granian's own WSGI server.

`POST /hook/<name>` does `task.delay(url, body)` with the URL of that name; `POST /constant` answers at once.
"""

import json
import os

from flask import Flask, request

from tests.benchmarks.bare.tasks import post

TARGETS = json.loads(os.environ["BARE_TARGETS"])

app = Flask("bare")


@app.post("/hook/<name>")
def hook(name: str):
    post.delay(TARGETS[name], request.get_data(as_text=True))
    return {"status": "queued"}, 202


@app.post("/constant")
def constant():
    return {"status": "constant"}, 202
