"""Tiny models run fastest on one thread; set before anything imports torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.hub_server import Hub
    from tests.s3_server import S3Server
    from tests.serving import Engine, Shared

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A module whose marks `-m` leaves out whole is not imported either: Ray, vLLM and OpenAI's
    client take seconds in every process."""
    wanted = config.option.markexpr
    if collection_path.suffix != ".py" or " or " in wanted:
        return None
    marks = re.search(r"^pytestmark = (.*?)^$", collection_path.read_text(), re.M | re.S)
    own = set(re.findall(r"mark\.(\w+)", marks[1])) if marks else set()
    return True if own & set(re.findall(r"not (\w+)", wanted)) else None


@pytest.hookimpl(optionalhook=True)  # without xdist there is nobody to ask
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `--dist loadscope` the tests of a folder stay in one process, and with them the Ray,
    the engine and the studies that they share."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):  # type: ignore[misc]  # its types are not read
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0].rpartition("/")[0]

    return ByFolder(config, log)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    from tests.serving import Shared  # Ray and torch: seconds

    started = Shared(tmp_path_factory.mktemp("served"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def shared_ray(shared: Shared) -> None:
    """A connected Ray of two CPUs, which other modules use as well."""
    shared.ray()


@pytest.fixture(scope="module")
def engine(shared: Shared) -> Engine:
    """A warm engine of the shipped base's shape, which other modules use as well."""
    return shared.engine()


@pytest.fixture(scope="module")
def no_ray(shared: Shared) -> None:
    """Ends the shared Ray, for tests that connect to another one in their own process."""
    shared.stop()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in of the Hugging Face Hub with an empty cache, for this process and for those that
    it starts; no token is set."""
    from huggingface_hub import constants

    from tests.hub_server import serving

    with serving() as hub:
        home = tmp_path / "hf-home"
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(home))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        # read from the environment when the library is imported
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, which all tests of this process use."""
    from tests import s3_server

    with s3_server.running(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty store on that server, with credentials in the environment."""
    from tests import s3_server

    with s3_server.environment(monkeypatch, s3.environment):
        yield s3.new_url()
