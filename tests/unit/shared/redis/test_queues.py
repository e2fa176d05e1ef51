"""The Celery application: what a hint looks like on the wire, and the settings that make it safe to
lose.
"""

from __future__ import annotations

from typing import Any

import pytest
from celery import current_app
from kombu import Connection
from kombu.transport.redis import Transport as RedisTransport

from shared.config import VISIBILITY_SECONDS
from shared.ids import new_id
from shared.redis.hints import SOCKET_SECONDS, HintSender
from shared.redis.queues import (
    FRESH,
    HINT_TASK,
    KEY_PREFIX,
    MAX_HINT_IDS,
    RETRY,
    make_celery,
    transport_options,
)
from worker.app import ROOM_WAIT_SECONDS

# Kombu's broker inside the process.
IN_MEMORY = "memory://"
CONSUMER_SOCKET_SECONDS = 10


def test_a_message_holds_ids_and_nothing_else() -> None:
    ids = [new_id() for _ in range(MAX_HINT_IDS)]
    sender = HintSender(make_celery(IN_MEMORY), IN_MEMORY)
    assert sender.send("lane-of-this-test", ids)
    with Connection(IN_MEMORY) as connection, connection.SimpleQueue("lane-of-this-test") as lane:
        message = lane.get(block=False)
        message.ack()
        assert lane.qsize() == 0
    positional, named, embedded = message.payload
    assert positional == [[str(trigger_id) for trigger_id in ids]]
    assert named == {}
    assert not any(embedded.values())
    assert message.content_type == "application/json"
    assert message.headers["task"] == HINT_TASK
    assert message.headers["eta"] is None, "the schedule lives in PostgreSQL, never in Celery"
    sender.close()


def test_the_application_listens_to_its_lanes_and_leaves_the_current_one_alone() -> None:
    before = current_app._get_current_object()
    app = make_celery(IN_MEMORY, ("fresh", "gold"))
    assert list(app.amqp.queues.consume_from) == ["fresh", "gold"]
    assert make_celery(IN_MEMORY).amqp.queues.consume_from.keys() == {FRESH, RETRY}
    assert current_app._get_current_object() is before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("task_ignore_result", True),
        ("result_backend", None),
        ("task_acks_late", True),
        ("task_acks_on_failure_or_timeout", True),
        ("task_reject_on_worker_lost", False),
        ("task_publish_retry", False),
        ("worker_prefetch_multiplier", 1),
        ("worker_send_task_events", False),
        ("worker_enable_remote_control", False),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("broker_connection_retry_on_startup", True),
        ("broker_connection_max_retries", None),
        ("broker_channel_error_retry", True),
        ("broker_pool_acquire_timeout", 1),
    ],
)
def test_a_worker_outlives_its_broker_and_a_message_cannot_run_code(name: str, value: Any) -> None:
    assert make_celery(IN_MEMORY).conf[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("global_keyprefix", KEY_PREFIX),
        ("unacked_restore_interval", 10),
        ("unacked_restore_throttle", 1),
        ("socket_keepalive", True),
        ("health_check_interval", 25),
        ("retry_on_timeout", False),
        ("priority_steps", [0]),
        ("max_retries", 1),
    ],
)
def test_the_transport_notices_a_dead_redis_and_restores_what_was_in_hand(name: str, value: Any) -> None:
    """Each as measured; without the throttle kombu looks for abandoned messages every 100 s, not
    every 10.
    """
    assert transport_options(socket_seconds=CONSUMER_SOCKET_SECONDS).get(name) == value


def test_times_agree_with_one_another() -> None:
    options = make_celery(IN_MEMORY).conf.broker_transport_options
    assert options["socket_timeout"] > RedisTransport.brpop_timeout, "a quiet lane is no dead Redis"
    assert options["visibility_timeout"] == VISIBILITY_SECONDS
    assert ROOM_WAIT_SECONDS + 60 < VISIBILITY_SECONDS, "a hint that waits for room is not restored meanwhile"


@pytest.mark.parametrize("socket_seconds", [SOCKET_SECONDS, 1, 10])
def test_no_call_is_without_a_bound(socket_seconds: float) -> None:
    options = transport_options(socket_seconds=socket_seconds)
    assert options["socket_timeout"] == socket_seconds
    assert options["socket_connect_timeout"] == min(socket_seconds, 3)
