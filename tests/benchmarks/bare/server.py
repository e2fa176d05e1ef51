"""A constant view behind Pointsman's own shell, on the same embedded Granian: what the shell alone
can do.
"""

import asyncio
import os

import uvloop
from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from api.server import Shell
from shared.config import Settings

app = Flask("constant")


@app.post("/constant")
def constant():
    return {"status": "constant"}, 202


async def main() -> None:
    server = Server(
        Shell(app, Settings()),
        interface=Interfaces.ASGINL,
        port=int(os.environ["CONSTANT_PORT"]),
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    await server.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
