"""One S3 server for the tests of this folder, and a new, empty store for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import s3_server
from tests.s3_server import S3Server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server.running(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server.environment(monkeypatch, s3.environment):
        yield s3.new_url()
