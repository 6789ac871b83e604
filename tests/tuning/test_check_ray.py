"""A Ray that cannot be joined or started is refused before any work, within seconds."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from forkdiv.core.config.place import PlaceConfig
from forkdiv.core.errors import UserError
from tuning import check_ray
from tuning.check_ray import MAX_SOCKET_PATH, SOCKET
from tuning.gcs import Versions, requires_token

HTTP_2 = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of settings
TOKEN = "0123456789abcdef" * 4
SAME = {"ray_version": Versions.here().ray, "python_version": Versions.here().python}
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


@contextmanager
def head(versions: Mapping[str, str] | None = None, token: str | None = None) -> Iterator[str]:
    """The address of a head as Ray answers: what is kept of its versions, to those with its
    token."""
    noted = json.dumps(SAME | dict(versions or {})).encode()

    class Kept(gcs_service_pb2_grpc.InternalKVGcsServiceServicer):  # type: ignore[misc]
        def InternalKVGet(self, request: Any, context: Any) -> Any:
            if token and ("authorization", f"Bearer {token}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            assert (request.namespace, request.key) == (b"cluster", b"CLUSTER_METADATA")
            return gcs_service_pb2.InternalKVGetReply(value=noted)

    server = grpc.server(ThreadPoolExecutor(1))
    gcs_service_pb2_grpc.add_InternalKVGcsServiceServicer_to_server(Kept(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(check_ray, "SECONDS", 0.5)


def refusal(address: str | None) -> str:
    with pytest.raises(UserError) as caught:
        check_ray.check_ray(PlaceConfig(ray_address=address))
    return str(caught.value)


def test_a_cluster_that_answers_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_ray, "SECONDS", 10)
    with head() as address:
        check_ray.check_ray(PlaceConfig(ray_address=address))
    with answering(HTTP_2) as address:
        check_ray.check_ray(PlaceConfig(ray_address=f"ray://{address}"))


@pytest.mark.parametrize("versions", [{"ray_version": "2.59.0"}, {"python_version": "3.11.0"}])
def test_a_cluster_of_other_versions_is_refused_with_both(
    versions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_ray, "SECONDS", 10)
    with head(versions) as address:
        message = refusal(address)
    (other,) = versions.values()
    assert other in message and f"{Versions.here()} here" in message and address in message


@pytest.mark.parametrize(
    ("mode", "given", "reason"),
    [
        (None, None, "got no token"),
        (None, TOKEN, "got no token"),  # Ray sends it only with the mode
        ("token", None, "got no token"),
        ("token", "f" * 64, "got another token"),
    ],
)
def test_a_missing_or_wrong_token_is_refused_at_once(
    mode: str | None, given: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_ray, "SECONDS", 10)
    for name, value in {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": given}.items():
        if value:
            monkeypatch.setenv(name, value)
    with head(token=TOKEN) as address:
        message = refusal(address)
    assert reason in message and "RAY_AUTH_MODE=token" in message
    assert (given or TOKEN) not in message


@pytest.mark.parametrize("place", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "home"])
def test_the_token_is_read_where_ray_reads_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_ray, "SECONDS", 10)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    file = tmp_path / ".ray" / "auth_token" if place == "home" else tmp_path / "token"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{TOKEN}\n")
    if place != "home":
        monkeypatch.setenv(place, TOKEN if place == "RAY_AUTH_TOKEN" else str(file))
    with head(token=TOKEN) as address:
        check_ray.check_ray(PlaceConfig(ray_address=address))


def test_a_head_is_asked_whether_it_requires_a_token() -> None:
    with head(token=TOKEN) as address:
        assert requires_token(address, 10)
    with head() as address:
        assert not requires_token(address, 10)


def test_a_port_that_is_not_the_heads_is_refused() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    message = refusal(f"127.0.0.1:{port}")
    server.stop(None)
    assert "not the head of a Ray cluster" in message


def test_results_in_the_working_directory_of_a_job_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="which Ray removes"):
        check_ray.check_ray(PlaceConfig())


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


def test_auto_is_the_cluster_that_ray_start_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_ray, "SECONDS", 10)
    assert "no `ray start` has run" in refusal("auto")
    (tmp_path / "ray").mkdir()
    with head() as address:
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
