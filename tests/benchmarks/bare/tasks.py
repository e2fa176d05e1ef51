"""The bare pipeline's worker: a stock Celery application whose task posts with a shared httpx.Client."""

import os

import httpx
from celery import Celery

app = Celery("bare", broker=os.environ["BARE_REDIS_URL"])
client = httpx.Client(timeout=10, trust_env=False)


@app.task(ignore_result=True)
def post(url: str, body: str) -> None:
    client.post(url, content=body, headers={"content-type": "application/json"}).raise_for_status()
