"""Secrets are shown as masks, and a mask that is written back means «unchanged»: for the
destination that the secret was set for, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import psycopg2
import pytest

from tests.peers.receiver import Receipt, Receiver
from tests.running import Running, eventually

MASK = "***"


@pytest.fixture
def other() -> Iterator[Receiver]:
    """A receiver at another port: another destination."""
    with Receiver() as receiver:
        yield receiver


def delivered(pointsman: Running, callback: dict[str, Any], receiver: Receiver) -> Receipt:
    """What the receiver gets of the next call, from the callback's last HTTP_POST."""
    trigger = pointsman.ended(pointsman.fire(callback, content=b"x"))
    assert trigger["status"] == "SUCCESS", trigger
    return [receipt for receipt in receiver.receipts if receipt.trigger_id == trigger["id"]][-1]


def refused(answer: httpx.Response, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["hint"]
    return answer.text


def with_action(pointsman: Running, receiver: Receiver, config: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A callback with an HTTP_POST of this config behind its primary action, and its path."""
    callback = pointsman.callback(receiver.url("/ok"), [{"type": "HTTP_POST", "config": config}])
    return callback, f"/api/v1/actions/{callback['actions'][0]['id']}"


def with_primary(pointsman: Running, url: str, headers: dict[str, str]) -> tuple[dict[str, Any], str]:
    """A callback to this URL whose primary action has these headers, and the path of the action."""
    callback = pointsman.callback(url)
    primary = pointsman.primary(callback, config={"target": "callback_url", "headers": headers})
    return callback, f"/api/v1/actions/{primary['id']}"


SECRETS = {"Authorization": "Bearer s3cret-1", "X-Tenant": "s3cret-2", "X-Empty": "", "Accept": "text/plain"}
QUERY = "?key=s3cret-3&plain=&key=s3cret-4&s3cret-5&sig=a=s3cret-6#s3cret-7"
MASKED_QUERY = "?key=***&plain=&key=***&***&sig=***#***"


class TestWhatIsShown:
    def test_every_header_value_but_of_harmless_ones_and_every_query_value_is_masked(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        """Fails when what is a secret is guessed by the header's name."""
        config = {"url": receiver.url("/p/q") + QUERY, "headers": SECRETS}
        callback, path = with_action(pointsman, receiver, config)
        shown = {
            "url": receiver.url("/p/q") + MASKED_QUERY,
            "headers": {"Authorization": MASK, "X-Tenant": MASK, "X-Empty": "", "Accept": "text/plain"},
        }
        assert {name: callback["actions"][0]["config"][name] for name in shown} == shown
        assert "s3cret" not in pointsman.api.get(path).text
        assert "s3cret" not in pointsman.api.get(f"/api/v1/callbacks/{callback['id']}/actions").text
        assert "s3cret" not in pointsman.api.patch(path, json={"enabled": False}).text

    def test_a_callbacks_url_is_shown_with_masks_everywhere(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        body = {"name": "masked", "callbackUrl": receiver.url("/p") + QUERY}
        key = {"idempotency-key": "a-masked-callback"}
        made = pointsman.api.post("/api/v1/callbacks", json=body, headers=key)
        again = pointsman.api.post("/api/v1/callbacks", json=body, headers=key)
        path = f"/api/v1/callbacks/{made.json()['id']}"
        answers = (
            *(made, again, pointsman.api.get(path), pointsman.api.get("/api/v1/callbacks")),
            pointsman.api.patch(path, json={"name": "renamed"}),
        )
        for answer in answers:
            assert answer.is_success
            assert "s3cret" not in answer.text
            assert receiver.url("/p") + MASKED_QUERY in answer.text


class TestWrittenBack:
    def test_a_config_that_is_read_changed_and_written_keeps_its_secrets(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        callback, path = with_action(
            pointsman, receiver, {"url": receiver.url("/p") + QUERY, "headers": SECRETS}
        )
        config = pointsman.api.get(path).json()["config"]
        config["headers"] |= {"X-Tenant": "changed", "X-New": "new"}
        config["url"] = config["url"].replace("/p?", "/elsewhere?")

        assert pointsman.api.patch(path, json={"config": config}).is_success

        got = delivered(pointsman, callback, receiver)
        assert got.path == "/elsewhere" + QUERY.partition("#")[0]
        assert {name: got.headers[name] for name in ("authorization", "x-tenant", "x-new", "accept")} == {
            "authorization": "Bearer s3cret-1",
            "x-tenant": "changed",
            "x-new": "new",
            "accept": "text/plain",
        }

    def test_a_mask_is_matched_by_name_wherever_it_stands(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        config = {"url": receiver.url("/p?b=s3cret-b&a=s3cret-1&a=s3cret-2"), "headers": SECRETS}
        callback, path = with_action(pointsman, receiver, config)
        changed = {
            "url": receiver.url("/p?a=***&new=1&a=%2A%2A%2A&b=***"),
            "headers": {"x-tenant": MASK, "AUTHORIZATION": MASK},
        }

        assert pointsman.api.patch(path, json={"config": changed}).is_success

        got = delivered(pointsman, callback, receiver)
        assert got.path == "/p?a=s3cret-1&new=1&a=s3cret-2&b=s3cret-b"
        assert (got.headers["authorization"], got.headers["x-tenant"]) == ("Bearer s3cret-1", "s3cret-2")

    def test_a_whole_callback_that_is_read_and_written_keeps_its_url(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        callback = pointsman.callback(receiver.url("/p?key=s3cret-1"))
        path = f"/api/v1/callbacks/{callback['id']}"
        shown = pointsman.api.get(path).json()
        writable = ("name", "callbackUrl", "customPath", "timeoutDuration", "cachePeriod", "tags")

        changed = pointsman.api.patch(path, json={name: shown[name] for name in writable} | {"name": "new"})

        assert changed.is_success, changed.text
        assert delivered(pointsman, callback, receiver).path == "/p?key=s3cret-1"
        moved = shown["callbackUrl"].replace("/p?", "/q?") + "&more=1"
        assert pointsman.api.patch(path, json={"callbackUrl": moved}).is_success
        assert delivered(pointsman, callback, receiver).path == "/q?key=s3cret-1&more=1"

    def test_what_was_never_sealed_is_sealed_when_it_is_written_back(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        """As a process of an earlier version leaves it that still ran while this one migrated."""
        config = {"url": receiver.url("/p?key=s3cret-1"), "headers": {"X-Own": "s3cret-2"}}
        callback, path = with_action(pointsman, receiver, {"url": receiver.url("/p")})
        of_callback = f"/api/v1/callbacks/{callback['id']}"
        action_id = callback["actions"][0]["id"]
        rows = (
            ("actions", "config", json.dumps(config), action_id),
            ("callbacks", "callback_url", receiver.url("/q?key=s3cret-3"), callback["id"]),
        )
        for table, column, value, row_id in rows:
            pointsman.query(f"UPDATE {table} SET {column} = %s WHERE id = %s RETURNING 1", value, row_id)
        shown = pointsman.api.get(path).json()["config"]
        url = pointsman.api.get(of_callback).json()["callbackUrl"]

        assert pointsman.api.patch(path, json={"config": shown}).is_success
        assert pointsman.api.patch(of_callback, json={"callbackUrl": url}).is_success

        for table, column, _, row_id in rows:
            ((text,),) = pointsman.query(f"SELECT {column}::text FROM {table} WHERE id = %s", row_id)
            assert "s3cret" not in text
        got = delivered(pointsman, callback, receiver)
        assert (got.path, got.headers["x-own"]) == ("/p?key=s3cret-1", "s3cret-2")

    @pytest.mark.parametrize(
        "config",
        [
            {"url": "/ok", "headers": {"X-New": MASK}},
            {"url": "/ok?other=***"},
            {"url": "/ok?key=***&key=***"},
            {"url": "/ok?***"},
            {"url": "/ok#***"},
            {"url": "/***"},
            {"url": "/ok?empty=***&key=***"},
        ],
        ids=str,
    )
    def test_a_mask_in_something_new_is_refused(
        self, pointsman: Running, receiver: Receiver, config: dict[str, Any]
    ) -> None:
        given = {**config, "url": receiver.url(config["url"])}
        kept = {"url": receiver.url("/ok?key=s3cret-1&empty="), "headers": {"Authorization": "s3cret-2"}}
        callback, path = with_action(pointsman, receiver, kept)

        refused(pointsman.api.patch(path, json={"config": given}), "mask_without_secret")
        new = {"type": "HTTP_POST", "config": given}
        refused(
            pointsman.api.post(f"/api/v1/callbacks/{callback['id']}/actions", json=new), "mask_without_secret"
        )
        got = delivered(pointsman, callback, receiver)
        assert (got.path, got.headers["authorization"]) == ("/ok?key=s3cret-1&empty=", "s3cret-2")

    def test_a_mask_in_a_new_callbacks_url_is_refused(self, pointsman: Running, receiver: Receiver) -> None:
        new = {"name": "x", "callbackUrl": receiver.url("/ok?key=***")}
        refused(pointsman.api.post("/api/v1/callbacks", json=new), "mask_without_secret")
        callback = pointsman.callback(receiver.url("/ok"))
        path = f"/api/v1/callbacks/{callback['id']}"
        refused(pointsman.api.patch(path, json={"callbackUrl": new["callbackUrl"]}), "mask_without_secret")


class TestAnotherDestination:
    """A secret goes nowhere but where it was set for, although a mask stands for it."""

    def test_masks_do_not_follow_an_actions_url(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        kept = {"url": receiver.url("/ok?key=s3cret-1"), "headers": {"Authorization": "s3cret-2"}}
        callback, path = with_action(pointsman, receiver, kept)
        elsewhere = (
            other.url("/ok"),
            f"http://localhost:{receiver.port}/ok",
            f"https://127.0.0.1:{receiver.port}/ok",
            "http://127.0.0.1/ok",
        )
        for url in elsewhere:
            for config in (
                {"url": url, "headers": {"authorization": MASK}},
                {"url": f"{url}?key=***"},
                {"url": f"{url}?key=***", "headers": {"Authorization": "new"}},
            ):
                text = refused(pointsman.api.patch(path, json={"config": config}), "secret_needed_again")
                assert "s3cret" not in text

        got = delivered(pointsman, callback, receiver)
        assert (got.path, got.headers["authorization"]) == ("/ok?key=s3cret-1", "s3cret-2")
        assert other.receipts == []
        moved = {"url": other.url("/ok?key=new"), "headers": {"Authorization": "said again"}}
        assert pointsman.api.patch(path, json={"config": moved}).is_success
        assert delivered(pointsman, callback, other).headers["authorization"] == "said again"

    def test_masks_do_not_follow_from_a_url_to_the_callbacks_own_and_back(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        callback, path = with_action(
            pointsman, receiver, {"url": other.url("/ok"), "headers": {"Authorization": "s3cret-1"}}
        )
        own = {"target": "callback_url", "headers": {"Authorization": MASK}}
        refused(pointsman.api.patch(path, json={"config": own}), "secret_needed_again")
        primary, primary_path = with_primary(pointsman, receiver.url("/ok"), {"Authorization": "s3cret-2"})
        away = {"url": other.url("/ok"), "headers": {"Authorization": MASK}}
        refused(pointsman.api.patch(primary_path, json={"config": away}), "secret_needed_again")
        same = {"url": receiver.url("/same"), "headers": {"Authorization": MASK}}
        assert pointsman.api.patch(primary_path, json={"config": same}).is_success
        got = delivered(pointsman, primary, receiver)
        assert (got.path, got.headers["authorization"]) == ("/same", "s3cret-2")
        assert delivered(pointsman, callback, other).headers["authorization"] == "s3cret-1"

    def test_another_spelling_of_the_same_destination_is_the_same(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        callback = pointsman.callback("https://example.com/a?key=s3cret-1")
        path = f"/api/v1/callbacks/{callback['id']}"
        for url in ("https://EXAMPLE.com:443/b?key=***", "HTTPS://example.com/c?key=***"):
            assert pointsman.api.patch(path, json={"callbackUrl": url}).is_success

    def test_a_callbacks_url_does_not_take_its_masks_elsewhere(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        callback = pointsman.callback(receiver.url("/ok?key=s3cret-1"))
        path = f"/api/v1/callbacks/{callback['id']}"
        given = {"callbackUrl": other.url("/ok?key=***"), "name": "moved"}
        refused(pointsman.api.patch(path, json=given), "secret_needed_again")
        assert pointsman.api.get(path).json()["name"] == "test"
        assert pointsman.api.patch(path, json={"callbackUrl": other.url("/ok?key=new")}).is_success
        assert delivered(pointsman, callback, other).path == "/ok?key=new"

    def test_a_callbacks_url_does_not_take_the_headers_of_its_primary_action_elsewhere(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        callback, action = with_primary(
            pointsman, receiver.url("/ok"), {"Authorization": "s3cret-1", "Accept": "text/plain"}
        )
        path = f"/api/v1/callbacks/{callback['id']}"

        text = refused(
            pointsman.api.patch(path, json={"callbackUrl": other.url("/ok")}), "secret_needed_again"
        )

        assert "Authorization" in text
        assert "Accept" not in text
        assert pointsman.api.patch(path, json={"callbackUrl": receiver.url("/elsewhere")}).is_success
        got = delivered(pointsman, callback, receiver)
        assert (got.path, got.headers["authorization"]) == ("/elsewhere", "s3cret-1")

        harmless = {"target": "callback_url", "headers": {"Accept": "text/plain"}}
        assert pointsman.api.patch(action, json={"config": harmless}).is_success
        assert pointsman.api.patch(path, json={"callbackUrl": other.url("/ok")}).is_success
        again = {"target": "callback_url", "headers": {"Authorization": "said again"}}
        assert pointsman.api.patch(action, json={"config": again}).is_success
        assert delivered(pointsman, callback, other).headers["authorization"] == "said again"
        assert len(receiver.receipts) == 1

    def test_a_secret_for_another_url_does_not_reach_the_old_one_in_a_run_under_way(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        """Fails when a later step reads its action anew, and the URL of its callback not."""
        first = {"type": "HTTP_POST", "order": 0, "config": {"url": receiver.url("/delay/1500")}}
        callback = pointsman.callback(receiver.url("/ok"), [first])
        headers = {"Authorization": "s3cret-1"}
        primary = pointsman.primary(callback, order=5, config={"target": "callback_url", "headers": headers})
        path, action = f"/api/v1/callbacks/{callback['id']}", f"/api/v1/actions/{primary['id']}"
        trigger_id = pointsman.fire(callback, content=b"x")
        eventually(lambda: receiver.receipts, 5, "the first step under way")
        for changed, json_ in (
            (action, {"config": {"target": "callback_url"}}),
            (path, {"callbackUrl": other.url("/ok")}),
            (action, {"config": {"target": "callback_url", "headers": {"Authorization": "of-the-other"}}}),
        ):
            assert pointsman.api.patch(changed, json=json_).is_success
        assert pointsman.ended(trigger_id)["status"] == "SUCCESS"
        assert [receipt.path for receipt in receiver.receipts] == ["/delay/1500"]
        (got,) = other.receipts
        assert got.headers["authorization"] == "of-the-other"

    def test_a_config_and_a_callbacks_url_do_not_change_past_one_another(
        self, pointsman: Running, receiver: Receiver, other: Receiver
    ) -> None:
        """Fails when the look at the callback's URL is not of the moment at which it is locked."""
        config = {"url": receiver.url("/own"), "headers": {"Authorization": "s3cret-1"}}
        callback, path = with_action(pointsman, receiver, config)
        own = {"target": "callback_url", "headers": {"Authorization": MASK}}
        connection = psycopg2.connect(pointsman.database_url)
        with closing(connection), connection.cursor() as cursor, ThreadPoolExecutor(1) as thread:
            cursor.execute(
                "UPDATE callbacks SET callback_url = %s WHERE id = %s", (other.url("/"), callback["id"])
            )
            answer = thread.submit(pointsman.api.patch, path, json={"config": own})
            waiting = (
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%callbacks%%'"
            )
            eventually(lambda: answer.done() or pointsman.query(waiting), 5, "a call that waits")
            connection.commit()
            refused(answer.result(10), "secret_needed_again")
        assert pointsman.api.get(path).json()["config"]["url"] == receiver.url("/own")


class TestWhatNoKeyOpens:
    """A key that was lost costs the secrets that it sealed, and nothing around them."""

    LOST = "sealed:00000000:gAAAAABmlost"

    def test_an_actions_secret_fails_that_action_alone_and_can_be_set_again(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        config = {"url": receiver.url("/lost?key=s3cret-1"), "headers": {"X-Own": "s3cret-2", "Accept": "a"}}
        callback, path = with_action(pointsman, receiver, config)
        pointsman.primary(callback, onFailure="CONTINUE")
        action_id = callback["actions"][0]["id"]
        lost = {"url": f"{receiver.url('')} {self.LOST}", "headers": {"X-Own": self.LOST, "Accept": "a"}}
        pointsman.query(
            "UPDATE actions SET config = %s WHERE id = %s RETURNING true", json.dumps(lost), action_id
        )

        trigger = pointsman.ended(pointsman.fire(callback))

        first, second = trigger["executions"]
        assert (first["status"], second["status"]) == ("SUCCESS", "FAILED")
        assert second["error"].startswith("bad_config: A stored secret cannot be decrypted")
        assert receiver.got("/lost") == []
        shown = pointsman.api.get(path).json()
        assert shown["config"]["url"] == receiver.url("/***")
        assert shown["config"]["headers"] == {"X-Own": MASK, "Accept": "a"}
        assert pointsman.api.patch(path, json={"name": "still changes"}).is_success
        refused(pointsman.api.patch(path, json={"config": shown["config"]}), "mask_without_secret")
        assert pointsman.api.patch(path, json={"config": config}).is_success
        assert delivered(pointsman, callback, receiver).headers["x-own"] == "s3cret-2"

    def test_a_callbacks_url_is_shown_masked_and_can_be_set_again(
        self, pointsman: Running, receiver: Receiver
    ) -> None:
        callback = pointsman.callback(receiver.url("/ok"))
        path = f"/api/v1/callbacks/{callback['id']}"
        pointsman.query(
            "UPDATE callbacks SET callback_url = %s WHERE id = %s RETURNING true",
            f"{receiver.url('')} {self.LOST}",
            callback["id"],
        )

        trigger = pointsman.ended(pointsman.fire(callback))

        (execution,) = trigger["executions"]
        assert execution["error"].startswith("bad_config: ")
        shown = pointsman.api.get(path).json()["callbackUrl"]
        assert shown == receiver.url("/***")
        assert shown in pointsman.api.get("/api/v1/callbacks").text
        refused(pointsman.api.patch(path, json={"callbackUrl": shown}), "mask_without_secret")
        assert pointsman.api.patch(path, json={"callbackUrl": receiver.url("/again")}).is_success
        assert delivered(pointsman, callback, receiver).path == "/again"


def test_a_url_of_the_greatest_length_is_written_back_as_it_was_shown(pointsman: Running) -> None:
    """Fails when the masks of many short values are counted as if they were the URL."""
    query = "?" + "&".join(f"a{n:03}=1" for n in range(280))
    url = "http://127.0.0.1:9/".ljust(2_000 - len(query), "p") + query
    callback = pointsman.callback(url, [{"type": "HTTP_POST", "config": {"url": url}}])
    action = f"/api/v1/actions/{callback['actions'][0]['id']}"
    path = f"/api/v1/callbacks/{callback['id']}"
    shown, config = callback["callbackUrl"], callback["actions"][0]["config"]
    assert len(shown) == len(config["url"]) > 2_000 == len(url)
    assert pointsman.api.patch(path, json={"callbackUrl": shown}).json()["callbackUrl"] == shown
    assert pointsman.api.patch(action, json={"config": config}).json()["config"] == config
    longer = shown.replace("=***", "=longer", 1)
    for answer in (
        pointsman.api.patch(path, json={"callbackUrl": longer}),
        pointsman.api.patch(action, json={"config": {"url": longer}}),
    ):
        assert answer.status_code == 422
        assert "longer than 2000" in answer.text
