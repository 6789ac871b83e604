"""What a command refuses before work: storage it cannot reach, read, write, or rely on."""

from __future__ import annotations

import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import Identity
from forkdiv.core.remote import objects
from forkdiv.core.remote.objects import Objects
from forkdiv.core.remote.storage_errors import StorageFailed
from forkdiv.core.store import Store, check_place
from tests import s3_server
from tests.s3_server import KEY, SECRET, S3Server
from tests.small_disk import small_disk


def place(tmp_path: Path, url: str, *more: str) -> PlaceConfig:
    settings = [f"place.root={tmp_path / 'runs'}", f"place.store={url}", *more]
    return load(None, ["place.min_free_mib=0", *settings]).place


def refusal(place: PlaceConfig) -> str:
    with pytest.raises(UserError) as caught:
        check_place(place)
    message = str(caught.value)
    assert "\n" not in message and SECRET not in message and KEY not in message
    return message


def test_storage_that_can_be_used_is_accepted_and_left_as_it_was(tmp_path: Path, url: str) -> None:
    check_place(place(tmp_path, url))
    assert Objects(url).listed() == []


def test_conditional_writes_have_one_winner(url: str) -> None:
    winners: list[str] = []
    barrier = threading.Barrier(8)

    def write(n: int) -> None:
        barrier.wait()
        if Objects(url).create("one", f"{n}".encode()) is not None:
            winners.append(f"{n}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = Objects(url).read("one")
    assert stored and [stored.data.decode()] == winners


def test_an_object_of_several_parts_comes_back_whole(tmp_path: Path, url: str) -> None:
    data = os.urandom(120 * 2**20)  # s3fs uploads it in parts, and downloads ranges
    (tmp_path / "big").write_bytes(data)
    Objects(url).upload({tmp_path / "big": "big"})
    Objects(url).download({tmp_path / "back": "big"})
    assert (tmp_path / "back").read_bytes() == data
    assert Objects(url).unfinished_uploads() == []


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_refused(
    tmp_path: Path, s3: S3Server, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server.environment(monkeypatch, {**s3.environment, name: "wrong"}):
        message = refusal(place(tmp_path, url))
    assert "refuses access" in message and "AWS_SECRET_ACCESS_KEY" in message


def test_missing_credentials_are_refused(
    tmp_path: Path, s3: S3Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    others = {name: value for name, value in s3.environment.items() if name not in keys}
    monkeypatch.setenv("HOME", str(tmp_path))  # without a file of credentials
    with s3_server.environment(monkeypatch, others):
        assert "refuses access" in refusal(place(tmp_path, url))


def test_a_missing_bucket_is_refused(tmp_path: Path, url: str) -> None:
    message = refusal(place(tmp_path, "s3://forkdiv-has-no-such-bucket/results"))
    assert "there is no such bucket" in message and "create the bucket" in message


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "http://storage.invalid:1"])
def test_storage_that_nobody_answers_at_is_refused(
    tmp_path: Path, s3: S3Server, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        nobody = endpoint.format(port=free.getsockname()[1])
        with s3_server.environment(monkeypatch, s3.environment | {"AWS_ENDPOINT_URL": nobody}):
            message = refusal(place(tmp_path, "s3://bucket/results"))
    assert "does not answer" in message and "run the same" not in message
    assert "check the network and AWS_ENDPOINT_URL" in message


def test_a_password_in_the_address_of_the_storage_is_not_shown(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = {"AWS_ENDPOINT_URL": "http://me:pass-word@storage.invalid:1"}
    with s3_server.environment(monkeypatch, s3.environment | nobody):
        assert "pass-word" not in refusal(place(tmp_path, "s3://bucket/results"))


class OldServer(BaseHTTPRequestHandler):
    """S3 as it was before conditional writes: it ignores the headers that it does not know."""

    protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue`
    kept: ClassVar[dict[str, bytes]] = {}
    ignored: ClassVar[set[str]] = set()

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        data = self.kept.get(self.path)
        self._answer(200 if data is not None else 404, data or b"")

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        exists = self.path in self.kept
        if self.headers["If-None-Match"] and exists and "If-None-Match" not in self.ignored:
            self._answer(412, b"")
            return
        self.kept[self.path] = data
        self._answer(200, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"<DeleteResult></DeleteResult>")

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{abs(hash(data)):032x}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("ignores", "named"), [({"If-None-Match", "If-Match"}, "If-None-Match"), (set(), "If-Match")]
)
def test_storage_without_conditional_writes_is_refused(
    tmp_path: Path,
    s3: S3Server,
    ignores: set[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    OldServer.kept, OldServer.ignored = {}, ignores
    server = ThreadingHTTPServer(("127.0.0.1", 0), OldServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        old = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        old["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
        with s3_server.environment(monkeypatch, s3.environment | old):
            message = refusal(place(tmp_path, "s3://bucket/results"))
    finally:
        server.shutdown()
        server.server_close()
    assert "no conditional writes" in message and f"ignores {named};" in message


def test_without_the_packages_of_the_extra_they_are_named(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "python -m forkdiv.requirements s3" in refusal(place(tmp_path, url))


def one_mib(folder: Path) -> None:
    (folder / "data").write_bytes(os.urandom(2**20))


def test_a_cache_on_a_full_disk_is_refused(tmp_path: Path, url: str) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        (disk / "fill").write_bytes(b"x" * 63 * 1024)
        with pytest.raises(UserError, match=r"cache folder.*set place\.cache to"):
            check_place(place(tmp_path, url, f"place.cache={disk}", "place.min_free_mib=1"))


def test_a_disk_that_fills_up_is_named_and_nothing_is_found_in_part(
    tmp_path: Path, url: str
) -> None:
    identity = Identity("dataset", {"examples": 1})
    Store.of(place(tmp_path, url)).obtain(identity, one_mib)
    with small_disk(tmp_path / "disk", 256) as disk:
        store = Store.of(place(tmp_path, url, f"place.cache={disk}"))
        with pytest.raises(Exception, match=r"No space left.*place\.cache_gib"):
            store.find(identity)
        assert not store.path(identity).exists()


def test_the_address_takes_no_credentials_and_nothing_else_than_a_bucket() -> None:
    for url in (f"s3://{KEY}:{SECRET}@bucket/x", "bucket/x", "gs://bucket/x", "s3://b", "s3://"):
        with pytest.raises(UserError, match=r"allowed: s3://BUCKET.*correct place\.store") as e:
            load(None, [f"place.store={url}"])
        assert SECRET not in str(e.value)
    assert load(None, ["place.store=s3://bucket/a/"]).place.store == "s3://bucket/a"


def test_no_key_is_written_anywhere(tmp_path: Path, url: str) -> None:
    settings = place(tmp_path, url)
    check_place(settings)
    identity = Identity("dataset", {"examples": 1})
    Store.of(settings).obtain(identity, one_mib)
    local = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    stored = [Objects(url).read(one.key) for one in Objects(url).listed()]
    contents = [*local, *(one.data for one in stored if one)]
    assert len(contents) > 4
    assert not any(word.encode() in data for data in contents for word in (KEY, SECRET))
    assert SECRET not in repr(Store.of(settings)) + settings.model_dump_json()


def test_work_that_the_storage_leaves_waiting_too_long_ends_with_one_line(
    url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free.getsockname()[1]}"}
        with s3_server.environment(monkeypatch, s3.environment | nobody):
            with pytest.raises(StorageFailed, match="published are kept: run the same command"):
                Objects(url, patience_s=1.0).read("x")
