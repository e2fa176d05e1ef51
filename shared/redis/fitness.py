"""Whether the Redis of a URL takes what Pointsman does with it, asked at a start.

Invariants:

- Every kind of command that we and kombu use is tried once, on keys under `pointsman:check.` and on
  our channel. So a user that lacks a right is named at the start, and not found out by slowness.
- What is wrong is said in a sentence. Redis away is Unavailable, which waiting may fix; what only
  its operator can give is ServerRefuses; cluster mode is ConfigError: kombu's keys lie in many
  slots.
"""

from __future__ import annotations

import contextlib
import secrets
from contextlib import closing

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    MovedError,
    NoPermissionError,
    ResponseError,
)

from shared.errors import ConfigError, PointsmanError, ServerRefuses, Unavailable
from shared.redis import urls
from shared.redis.settlements import CHANNEL, CHECK

SOCKET_SECONDS = 3.0

# Of what a process that is killed meanwhile would leave behind.
CHECK_SECONDS = 60

_RIGHTS = (
    "ACL SETUSER {user} resetkeys ~pointsman:* resetchannels &pointsman:* +@all -@admin -@dangerous +info"
)


def examine(url: str) -> None:
    """Return if Redis takes our commands now; the reason why not is raised."""
    server = urls.read(url)
    client = server.client(socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS)
    with closing(client):
        try:
            _refuse_cluster(client)
            _try_all(client)
        except (redis.RedisError, OSError) as error:
            raise _explain(error, server.username or "default") from error


def _refuse_cluster(client: redis.Redis) -> None:
    try:
        found = client.info("cluster")
    except NoPermissionError:
        return  # what is in a cluster answers MOVED below
    if found.get("cluster_enabled"):
        raise ClusterError("cluster_enabled is 1")


def _try_all(client: redis.Redis) -> None:
    """Do each kind of thing once, with keys that no other process uses at the moment."""
    mark = f"{CHECK}.{secrets.token_hex(8)}"
    try:
        _try_pipeline(client, mark)
        client.brpop([f"{mark}.list"], timeout=1)
        with client.lock(f"{mark}.lock", timeout=CHECK_SECONDS, blocking=False):  # a script
            client.transaction(lambda commands: commands.multi(), f"{mark}.hash")  # which watches
        with client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call,unused-ignore]
            channel.subscribe(CHANNEL)
            channel.parse_response(timeout=SOCKET_SECONDS)
    finally:
        with contextlib.suppress(redis.RedisError, OSError):
            client.delete(*(f"{mark}.{kind}" for kind in ("list", "hash", "zset", "set", "lock")))


def _try_pipeline(client: redis.Redis, mark: str) -> None:
    """What kombu does with each type of key, in one transaction, as kombu does."""
    with client.pipeline(transaction=True) as commands:
        commands.set(CHECK, b"1", ex=CHECK_SECONDS)
        commands.lpush(f"{mark}.list", b"1", b"2", b"3")
        commands.llen(f"{mark}.list")
        commands.rpop(f"{mark}.list")
        commands.rpush(f"{mark}.list", b"4")
        commands.hset(f"{mark}.hash", "1", b"1")
        commands.hget(f"{mark}.hash", "1")
        commands.hdel(f"{mark}.hash", "1")
        commands.zadd(f"{mark}.zset", {"1": 1.0})
        commands.zrevrangebyscore(f"{mark}.zset", 2, 0, start=0, num=1, withscores=True)
        commands.zrem(f"{mark}.zset", "1")
        commands.sadd(f"{mark}.set", b"1")
        commands.smembers(f"{mark}.set")
        commands.srem(f"{mark}.set", b"1")
        commands.publish(CHANNEL, b"")
        commands.execute()


def _explain(error: Exception, user: str) -> PointsmanError:
    reason = str(error).split("\n", 1)[0].rpartition("caused error: ")[2].rstrip(".") or type(error).__name__
    if "HELLO must be called" in reason or "Authentication required" in reason:
        reason = "it wants a password"
    if isinstance(error, (MovedError, ClusterError)) or "CROSSSLOT" in reason:
        return ConfigError(
            "Redis runs in cluster mode, which Pointsman cannot use.",
            hint=f"Let {urls.VARIABLE} name one server without cluster mode, or Sentinel for failover.",
        )
    if isinstance(error, NoPermissionError):
        return ServerRefuses(
            f"The user {user} of Redis lacks a right that Pointsman needs: {reason}.",
            hint=f"{_RIGHTS.format(user=user)} gives all that it needs, and no more.",
        )
    if isinstance(error, (AuthenticationError, AuthorizationError)) or "WRONGPASS" in reason:
        return ServerRefuses(
            f"Redis lets nobody in: {reason}.", hint=f"Look at user and password in {urls.VARIABLE}."
        )
    if isinstance(error, ResponseError) and "DB index" in reason:
        return ConfigError(f"{urls.VARIABLE} names a database that Redis does not have: {reason}.")
    return Unavailable(f"Redis is not ready: {reason}.", hint=f"Start it, or look at {urls.VARIABLE}.")
