"""A Ray that cannot be joined or started is refused before any work, within seconds."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forkdiv.core.config.place import PlaceConfig
from forkdiv.core.errors import UserError
from tuning import check_ray
from tuning.check_ray import MAX_SOCKET_PATH, SOCKET

HTTP_2 = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of settings
HTTP_1 = b"HTTP/1.1 400 Bad Request\r\n\r\n"


@contextmanager
def answering(reply: bytes | None) -> Iterator[str]:
    """The address of a server that sends `reply` to everyone; None: it accepts and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            kept = []
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if reply is not None:
                    connection.recv(1024)
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)  # ends accept, which would keep the port open


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(check_ray, "SECONDS", 0.5)


def refusal(address: str | None) -> str:
    with pytest.raises(UserError) as caught:
        check_ray.check_ray(PlaceConfig(ray_address=address))
    return str(caught.value)


def test_a_cluster_that_answers_is_joined() -> None:
    with answering(HTTP_2) as address:
        for prefix in ("", "ray://"):
            check_ray.check_ray(PlaceConfig(ray_address=prefix + address))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(None, "no answer within 0.5 s"), (HTTP_1, "is not Ray")],
)
def test_a_server_that_is_silent_or_not_ray_is_refused(reply: bytes | None, reason: str) -> None:
    with answering(reply) as address:
        begun = time.monotonic()
        message = refusal(address)
    assert reason in message and address in message and "place.ray_address" in message
    assert time.monotonic() - begun < 3


def test_an_address_that_nobody_listens_on_is_refused() -> None:
    with answering(HTTP_2) as address:
        pass
    assert "refused" in refusal(address)


@pytest.mark.parametrize(
    "address", ["here", "here:", ":1", "http://here:8265", "here:x", "h:70000"]
)
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    assert f"got {address} (not HOST:PORT)" in refusal(address)


def test_the_address_of_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(HTTP_1) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "there is no Ray cluster at RAY_ADDRESS" in refusal(None)


def test_auto_is_the_cluster_that_ray_start_noted(tmp_path: Path) -> None:
    assert "no `ray start` has run" in refusal("auto")
    (tmp_path / "ray").mkdir()
    with answering(HTTP_2) as address:
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        check_ray.check_ray(PlaceConfig(ray_address="auto"))
    assert "got auto (" in refusal("auto")


def test_a_temporary_folder_too_long_for_sockets_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        folder = Path(root, "x" * (MAX_SOCKET_PATH - len(str(Path(root, SOCKET))) - 1))
        long = folder.with_name(f"{folder.name}x")
        for path in (folder, long):
            path.mkdir()
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        check_ray.check_ray(PlaceConfig())
        monkeypatch.setenv("RAY_TMPDIR", str(long))
        message = refusal(None)
    assert f"allowed: at most {len(str(folder))} bytes" in message and "RAY_TMPDIR" in message


def test_a_temporary_folder_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/no/such/folder")
    assert "Ray cannot write to the temporary folder" in refusal(None)
