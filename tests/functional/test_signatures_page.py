"""The examples of docs/signatures.md do what the page says, with a delivery that was really signed.

Python is always there. JavaScript and Go are run where `node` and `go` are on the PATH.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from shared.signatures import Scheme, new_signing_secret, public_key, sign, signing_key
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

PAGE = (Path(__file__).parents[2] / "docs" / "signatures.md").read_text()
BODY = '{"order": "ça va", "n": 1.50}'.encode()
SCHEMES: tuple[Scheme, ...] = ("v1", "v1a")
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def examples(heading: str, language: str) -> list[str]:
    """The fenced examples in this language under this heading."""
    (section,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return found


@dataclass(frozen=True)
class Case:
    """What a receiver is asked: whether a delivery was signed for its key."""

    name: str
    key: str
    headers: dict[str, str]
    body: bytes
    genuine: bool

    @property
    def asked(self) -> dict[str, Any]:
        return {"key": self.key, "headers": self.headers, "body": base64.b64encode(self.body).decode()}


@dataclass(frozen=True)
class Signed:
    """A delivery during a rotation, and the keys of those who should take it."""

    headers: dict[str, str]
    body: bytes
    keys: dict[str, str] = field(default_factory=dict)

    def cases(self) -> list[Case]:
        found = []
        for name, key in self.keys.items():
            good = Case(name, key, self.headers, self.body, True)
            found += [
                good,
                replace(good, name=f"{name}, another body", body=self.body + b" ", genuine=False),
                replace(good, name=f"{name}, junk", headers=self.headers | JUNK, genuine=False),
                *(self._with(good, header, f"{value}1") for header, value in self.headers.items()),
                *(self._without(good, header) for header in self.headers),
            ]
        for scheme in SCHEMES:
            secret = new_signing_secret(scheme)
            key = secret if scheme == "v1" else public_key(secret)
            found.append(Case(f"a strange key of {scheme}", key, self.headers, self.body, False))
            for age, genuine in ((600, False), (-600, False), (200, True), (-200, True)):
                headers = made_headers(secret, self.body, age)
                found.append(Case(f"{scheme}, {age} s old", key, headers, self.body, genuine))
        return found

    def _with(self, case: Case, header: str, value: str) -> Case:
        if header == "webhook-signature":  # of which one that fits is enough
            value = " ".join(f"{one[:-4]}AAA=" for one in self.headers[header].split(" "))
        changed = self.headers | {header: value}
        return replace(case, name=f"{case.name}, another {header}", headers=changed, genuine=False)

    def _without(self, case: Case, header: str) -> Case:
        rest = {name: value for name, value in self.headers.items() if name != header}
        return replace(case, name=f"{case.name}, no {header}", headers=rest, genuine=False)


def made_headers(secret: str, body: bytes, age_seconds: int) -> dict[str, str]:
    sent_at = int(time.time()) - age_seconds
    signature = sign([signing_key(secret)], "id-1", sent_at, body)
    return {"webhook-id": "id-1", "webhook-timestamp": str(sent_at), "webhook-signature": signature}


BUILD_SECONDS = 240
GO_OFFLINE = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
JUNK = {"webhook-signature": "v1 v1a v1,!! v1a,!! v2,AAAA , v1a,AAAA v1,AAAA"}


@pytest.fixture(scope="module")
def signed(pointsman: Running) -> Signed:
    """A delivery of a callback in whose rotation both schemes sign, old and new."""
    with Receiver() as receiver:
        callback = pointsman.callback(receiver.url("/ok"), signatures=["v1", "v1a"])
        path = f"/api/v1/callbacks/{callback['id']}/rotate-secret"
        rotated = pointsman.api.post(path).raise_for_status().json()
        pointsman.fire(callback, content=BODY)
        eventually(lambda: receiver.receipts, 15, "the delivery")
        (receipt,) = receiver.receipts
    new_key, old_key = (key["key"] for key in rotated["publicKeys"])
    keys = {
        "old secret": callback["signingSecret"],
        "new secret": rotated["signingSecret"],
        "old public key": old_key,
        "new public key": new_key,
    }
    return Signed({name: receipt.headers[name] for name in HEADERS}, receipt.body, keys)


Verifier = Callable[[list[Case]], list[bool]]


def run(command: list[str], folder: Path) -> str:
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
        env=os.environ | GO_OFFLINE,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def asking(command: list[str], folder: Path) -> Verifier:
    """A program that reads cases and says of each whether it is genuine."""

    def verifier(cases: list[Case]) -> list[bool]:
        (folder / "cases.json").write_text(json.dumps([case.asked for case in cases]))
        said: list[bool] = json.loads(run(command, folder))
        return said

    return verifier


PYTHON = """
import base64, json
from example import is_genuine
cases = json.load(open("cases.json"))
print(json.dumps([is_genuine(c["key"], c["headers"], base64.b64decode(c["body"])) for c in cases]))
"""

JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { isGenuine } from "./example.mjs";
const cases = JSON.parse(readFileSync("cases.json"));
console.log(JSON.stringify(cases.map((c) => isGenuine(c.key, c.headers, Buffer.from(c.body, "base64")))));
"""

GO = """
package main

import (
	"encoding/json"
	"net/http"
	"os"

	"example.com/receiver/webhooks"
)

func main() {
	var cases []struct {
		Key     string
		Headers map[string]string
		Body    []byte
	}
	text, err := os.ReadFile("cases.json")
	if err == nil {
		err = json.Unmarshal(text, &cases)
	}
	if err != nil {
		panic(err)
	}
	said := []bool{}
	for _, one := range cases {
		header := http.Header{}
		for name, value := range one.Headers {
			header.Set(name, value)
		}
		said = append(said, webhooks.IsGenuine(one.Key, header, one.Body))
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		panic(err)
	}
}
"""


def python(folder: Path) -> Verifier:
    (folder / "example.py").write_text(examples("Python", "python")[0])
    (folder / "driver.py").write_text(PYTHON)
    return asking([sys.executable, "driver.py"], folder)


def javascript(folder: Path) -> Verifier:
    node = needed("node")
    (folder / "example.mjs").write_text(examples("JavaScript", "js")[0])
    (folder / "driver.mjs").write_text(JAVASCRIPT)
    return asking([node, "driver.mjs"], folder)


def go(folder: Path) -> Verifier:
    compiler = needed("go")
    (folder / "webhooks").mkdir()
    (folder / "webhooks" / "example.go").write_text(examples("Go", "go")[0])
    (folder / "main.go").write_text(GO)
    (folder / "go.mod").write_text("module example.com/receiver\n\ngo 1.21\n")
    run([compiler, "build", "-o", "driver", "."], folder)  # cold, that takes a minute
    return asking([str(folder / "driver")], folder)


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no `{program}` on the PATH to run this example with")
    return found


@pytest.mark.timeout(2 * BUILD_SECONDS)
@pytest.mark.parametrize("language", [python, javascript, go], ids=lambda one: one.__name__)
def test_the_functions_take_what_is_genuine_and_nothing_else(
    language: Callable[[Path], Verifier], signed: Signed, tmp_path: Path
) -> None:
    verifier, cases = language(tmp_path), signed.cases()
    said = verifier(cases)
    wrong = [case.name for case, one in zip(cases, said, strict=True) if one != case.genuine]
    assert wrong == []
    assert set(signed.keys) <= {case.name for case in cases if case.genuine}
    assert len(cases) == 4 * 9 + 2 * 5


def test_the_library_takes_what_is_genuine_and_nothing_else(signed: Signed) -> None:
    (example,) = examples("With a library", "python")
    scope: dict[str, Any] = {}
    exec(compile(example, "example", "exec"), scope)
    event_of = scope["event_of"]
    for name in ("old secret", "new secret"):
        assert event_of(signed.keys[name], signed.headers, signed.body) == json.loads(BODY)
        assert event_of(signed.keys[name], signed.headers, b"{}") is None
    assert event_of(new_signing_secret(), signed.headers, signed.body) is None


def test_the_commands_work_when_they_are_pasted(pointsman: Running, receiver: Receiver) -> None:
    commands = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(commands) == 3
    environment = {
        "BASE": pointsman.url,
        "TOKEN": pointsman.api.headers["authorization"].removeprefix("Bearer "),
        "RECEIVER": receiver.url("/ok"),
    }

    def pasted(command: str) -> dict[str, Any]:
        ended = subprocess.run(
            ["sh", "-c", command],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    created = pasted(commands[0])
    assert created["signatures"] == ["v1", "v1a"]
    assert created["signingSecret"].startswith("whsec_")
    environment["ID"] = created["id"]
    secret = pasted(commands[1])
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert secret.keys() == json.loads(shown).keys()
    token = pasted(commands[2])
    assert set(token) == {"triggerToken", "triggerUrl", "graceEndsAt"}
    assert token["triggerUrl"] != created["triggerUrl"]


def test_no_example_is_left_out() -> None:
    """Fails when the page gets an example that nothing here runs."""
    languages = re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)
    assert sorted(languages) == ["go", "js", "json", "python", "python", "sh", "sh", "sh"]
