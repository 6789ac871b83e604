"""`forkdiv serve` before it starts anything: who needs a key, and where it is reached."""

from __future__ import annotations

import socket

import pytest

from forkdiv.core.config.study import HttpConfig
from jobs.serve import KEY, api_key, base_url


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_needs_no_key(host: str) -> None:
    assert api_key(HttpConfig(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "node-7"])
def test_beyond_this_machine_a_new_key_is_generated_each_time(host: str) -> None:
    made = {api_key(HttpConfig(host=host)) for _ in range(2)}
    assert len(made) == 2
    assert all(len(key or "") >= 32 for key in made)


def test_a_key_in_the_environment_is_required_on_this_machine_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY, "mine")
    assert api_key(HttpConfig()) == api_key(HttpConfig(host="0.0.0.0")) == "mine"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("node-7", "node-7"),
        ("::1", "[::1]"),
        ("0.0.0.0", socket.gethostname()),
        ("::", socket.gethostname()),
    ],
)
def test_the_base_url_is_reachable_for_clients(host: str, shown: str) -> None:
    assert base_url(HttpConfig(host=host, port=8001)) == f"http://{shown}:8001/v1"
