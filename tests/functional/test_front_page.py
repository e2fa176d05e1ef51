"""`/`: what whoever opens the address in a browser sees, and what a program is told."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from tests.running import Running

ROOT = Path(__file__).parents[2]
MAX_BYTES = 16 * 1024
LOADING = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "form", "base"}


class Page(HTMLParser):
    """The tags, links and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.hrefs: list[str] = []
        self.named: dict[str, str | None] = {}
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert "style" not in given, "the policy lets no style but the one of the page"
        assert not [name for name in given if name.startswith("on")]
        if "href" in given:
            self.hrefs.append(given["href"] or "")
        if tag == "meta" and "name" in given:
            self.named[given["name"] or ""] = given["content"]

    def handle_data(self, data: str) -> None:
        self.text += data


def get(pointsman: Running, accept: str | None) -> httpx.Response:
    headers = {"accept": accept} if accept else {}
    return httpx.get(f"{pointsman.url}/", headers=headers, trust_env=False)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize("accept", [BROWSER, "*/*", None, "image/png"])
def test_who_opens_the_address_sees_a_page_that_loads_nothing(pointsman: Running, accept: str | None) -> None:
    answer = get(pointsman, accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert len(answer.content) < MAX_BYTES
    page = Page(answer.text)
    assert not LOADING & set(page.tags)
    assert "://" not in "".join(page.hrefs), "it leads to nobody else"
    assert not re.search(r"url\(|@import", answer.text)


def test_the_page_is_safe_and_can_be_read_on_a_phone_and_in_the_dark(pointsman: Running) -> None:
    answer = get(pointsman, BROWSER)
    assert answer.headers["x-content-type-options"] == "nosniff"
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert "color-scheme: light dark" in style
    assert "prefers-color-scheme: dark" in style
    assert Page(answer.text).named["viewport"] == "width=device-width, initial-scale=1"


def test_where_the_page_leads_to_is_there(pointsman: Running) -> None:
    page = Page(get(pointsman, BROWSER).text)
    assert {"/api/v1/openapi.json", "/readyz"} <= set(page.hrefs)
    for href in page.hrefs:
        assert httpx.get(pointsman.url + href, trust_env=False).status_code == 200, href
    docs = set(re.findall(r"[\w/]+\.md", page.text))
    assert {"README.md", "docs/api.md"} <= docs
    assert {doc for doc in docs if not (ROOT / doc).is_file()} == set()
    assert f"curl {pointsman.url}/api/v1/auth/login" in page.text


@pytest.mark.parametrize("accept", ["application/json", "application/json;q=0.9,text/html;q=0.1"])
def test_a_program_is_told_the_same(pointsman: Running, accept: str) -> None:
    answer = get(pointsman, accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["vary"].lower() == "accept"
    page = Page(get(pointsman, BROWSER).text)
    told = answer.json()
    assert [link["href"] for link in told["links"]] == page.hrefs
    assert [doc["path"] for doc in told["docs"]] == re.findall(r"[\w/]+\.md", page.text)
    assert told["what"] in page.text


def test_the_page_says_no_callers_host_back(pointsman: Running) -> None:
    for accept in (BROWSER, "application/json"):
        headers = {"host": "canary.example", "accept": accept}
        assert "canary" not in httpx.get(f"{pointsman.url}/", headers=headers, trust_env=False).text
