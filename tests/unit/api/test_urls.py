"""The public URLs."""

from __future__ import annotations

from uuid import UUID

import pytest

from api.urls import NAME, Urls, logged_path

ONE = UUID("01938c5e-8a00-7000-8000-000000000001")


def test_a_trigger_url_and_its_status_url() -> None:
    urls = Urls("https://hooks.example.com")
    assert urls.by_token("abc") == "https://hooks.example.com/t/abc"
    assert urls.by_path("mine") == "https://hooks.example.com/c/mine"
    assert urls.status(urls.by_token("abc"), ONE) == f"https://hooks.example.com/t/abc/{ONE}"


@pytest.mark.parametrize("name", ["a/b", "", "a b", "caf\u00e9", "a%2f", "x" * 201, "a?b", "a#b"])
def test_a_name_needs_no_escaping(name: str) -> None:
    assert not NAME.fullmatch(name)
    assert NAME.fullmatch("a.B_9~-")


@pytest.mark.parametrize(
    ("path", "logged"),
    [("/t/canary", "/t/***"), ("/c/canary/x", "/c/***"), ("/t", "/t"), ("/", "/"), ("/api/t/x", "/api/t/x")],
)
def test_the_log_names_no_trigger_url(path: str, logged: str) -> None:
    assert logged_path(path) == logged
