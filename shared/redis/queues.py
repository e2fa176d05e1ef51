"""The Celery application and its lanes, as the API and the workers both see them.

A message is a hint, «look at these triggers»: a list of at most MAX_HINT_IDS trigger ids and
nothing else. It may arrive never, once or many times; PostgreSQL holds the truth. Beside it there
is «look whether probes wait», which names nothing at all.

Redis keys, all under KEY_PREFIX: `fresh`, `retry` and other lanes (list of Celery messages, no
TTL); `unacked`, `unacked_index`, `unacked_mutex` (kombu's own, for messages in hand);
`_kombu.binding.*` (set).
"""

from __future__ import annotations

from celery import Celery
from kombu import Connection, Queue

from shared.config import VISIBILITY_SECONDS
from shared.redis.urls import broker_of

FRESH = "fresh"
RETRY = "retry"
HINT_TASK = "pointsman.hint"
PROBE_TASK = "pointsman.probe"
MAX_HINT_IDS = 100
CONSUMER_SOCKET_SECONDS = 10.0
KEY_PREFIX = "pointsman:"


def transport_options(*, socket_seconds: float) -> dict[str, object]:
    """Options of kombu's Redis transport. `socket_seconds` bounds each reply of Redis.

    A consumer needs more than its BRPOP interval; a publisher wants to give up soon.
    """
    return {
        "global_keyprefix": KEY_PREFIX,
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,  # by default only each tenth of these intervals does anything
        "socket_timeout": socket_seconds,
        "socket_connect_timeout": min(socket_seconds, 3),
        "socket_keepalive": True,
        "health_check_interval": 25,
        "retry_on_timeout": False,
        "priority_steps": [0],
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.2,
    }


def open_broker(redis_url: str, *, socket_seconds: float) -> Connection:
    """A connection of kombu's for whoever publishes, made when first used."""
    broker = broker_of(redis_url, socket_seconds=socket_seconds)
    options = {**transport_options(socket_seconds=socket_seconds), **broker.options}
    return Connection(broker.url, ssl=broker.ssl or False, transport_options=options)


def make_celery(redis_url: str, lanes: tuple[str, ...] = (FRESH, RETRY)) -> Celery:
    """The Celery application: JSON hints over Redis, no results, no remote control, late
    acknowledgement.
    """
    broker = broker_of(redis_url, socket_seconds=CONSUMER_SOCKET_SECONDS)
    app = Celery("pointsman", broker=broker.url, set_as_current=False)
    app.conf.update(
        broker_use_ssl=broker.ssl,
        task_queues=[Queue(lane, routing_key=lane) for lane in lanes],
        task_default_queue=FRESH,
        task_create_missing_queues=True,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_transport_options={
            **transport_options(socket_seconds=CONSUMER_SOCKET_SECONDS),
            **broker.options,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=1,
        visibility_timeout=VISIBILITY_SECONDS,
    )
    return app
