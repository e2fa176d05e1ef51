"""The bare pipeline's API, and a constant view, on the same shell and the same Granian as Pointsman's.

`POST /hook/<name>` does `task.delay(url, body)` with the URL of that name; `POST /constant` answers at once.
"""

import asyncio
import json
import os

import uvloop
from flask import Flask, request
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from api.server import Shell
from shared.config import Settings
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


async def main() -> None:
    server = Server(
        Shell(app, Settings()),
        interface=Interfaces.ASGINL,
        port=int(os.environ["BARE_PORT"]),
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    await server.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
