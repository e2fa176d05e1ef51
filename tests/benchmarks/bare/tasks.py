"""The bare pipeline's worker: a stock Celery application whose tasks post with a kept connection of
libcurl.

`post` is gone when anything dies. `post_durably` is acknowledged once it was delivered, and tried
again when it failed. pycurl is the fastest of the synchronous clients that were tried:
docs/benchmarks.md names them.
"""

import os
import threading

import pycurl
from celery import Celery
from celery.signals import worker_init, worker_process_init

from tests.benchmarks.bare import process

TIMEOUT_SECONDS = 10
RETRIES = 8
FIRST_RETRY_SECONDS = 1

app = Celery("bare", broker=os.environ["BARE_REDIS_URL"])
app.conf.update(
    broker_pool_limit=int(os.environ["BARE_THREADS"])
    + 1,  # a thread that waits for a connection loses a third
    task_ignore_result=True,
    worker_enable_remote_control=False,
)
worker_init.connect(process.settle)
worker_process_init.connect(process.settle)

_own = threading.local()


def _client() -> pycurl.Curl:
    """The connection of this thread: libcurl's are for one at a time."""
    if not hasattr(_own, "client"):
        client = _own.client = pycurl.Curl()
        client.setopt(pycurl.TIMEOUT, TIMEOUT_SECONDS)
        client.setopt(pycurl.NOSIGNAL, 1)
        client.setopt(pycurl.PROXY, "")
        client.setopt(pycurl.POST, 1)
        client.setopt(pycurl.HTTPHEADER, ["content-type: application/json"])
        client.setopt(pycurl.FAILONERROR, 1)
        client.setopt(pycurl.WRITEFUNCTION, lambda _data: None)
    return _own.client


@app.task
def post(url: str, body: str) -> None:
    client = _client()
    client.setopt(pycurl.URL, url)
    client.setopt(pycurl.POSTFIELDS, body)
    client.perform()


@app.task(
    acks_late=True,
    autoretry_for=(pycurl.error,),
    max_retries=RETRIES,
    retry_backoff=FIRST_RETRY_SECONDS,
)
def post_durably(url: str, body: str) -> None:
    post(url, body)
