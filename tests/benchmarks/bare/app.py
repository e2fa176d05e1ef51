"""The bare pipeline's API: a Flask view that hands the body to Celery, run by Granian's own WSGI
server.

`POST /hook/<name>` sends `post(url, body)` with the URL of that name; `POST /durable/<name>`
commits a row before it sends `post_durably`; `POST /constant` answers at once. Celery is spared the
readable copy that it makes of arguments.
"""

import json
import os

from flask import Flask, request

from tests.benchmarks.bare import process, table
from tests.benchmarks.bare.tasks import post, post_durably

TARGETS = json.loads(os.environ["BARE_TARGETS"])

app = Flask("bare")


@app.post("/hook/<name>")
def hook(name: str):
    post.apply_async((TARGETS[name], request.get_data(as_text=True)), argsrepr="", kwargsrepr="")
    return {"status": "queued"}, 202


@app.post("/durable/<name>")
def durable(name: str):
    url, body = TARGETS[name], request.get_data(as_text=True)
    table.insert(url, body)
    post_durably.apply_async((url, body), argsrepr="", kwargsrepr="")
    return {"status": "queued"}, 202


@app.post("/constant")
def constant():
    return {"status": "constant"}, 202


process.settle()
