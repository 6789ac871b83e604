"""One Ray and one warm engine for every test of a process that can share them.

Starting them takes most of a minute. Tests take them through the fixtures of tests/conftest.py:
`shared_ray` and `engine`, or `no_ray` where they start a Ray of their own.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.sample import deployment, http
from forkdiv.sample.engine import EngineSample
from tests import checkpoints, checkpoints_tokens
from tests.stack import BASE
from tuning.session import running, serving_spec

STUDY = StudyConfig(base=BASE)
PLACE = PlaceConfig(dashboard=False, num_cpus=2)
KEY = "the key of these tests"
TEMPLATES = {
    # of words that the base's tokenizer has
    "chat": "{% if edge is defined %}edges: {{ edge }} {% endif %}"
    "{% for m in messages %}{{ m['content'] }} {% endfor %}",
    "endless": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
}


@dataclass(frozen=True)
class Ask:
    """One request to the engine: `n` samples of a problem with seeds from `seed` on."""

    checkpoint: Checkpoint
    prompt: str
    n: int
    seed: int
    decoder: DecoderConfig
    prefix: str = ""
    first_index: int = 0


@dataclass(frozen=True)
class Engine:
    """A served application, for handles as a study's and for clients over HTTP."""

    app: str
    url: str
    served: dict[str, Checkpoint]
    sampler: deployment.ServeSampler

    def samples(self, *asks: Ask) -> list[list[EngineSample]]:
        """The answers in order; all requests are in flight together."""
        handle = deployment.wait_until_ready(self.app, 600)
        answers = [
            handle.sample.remote(
                one.checkpoint,
                one.prompt,
                one.n,
                one.seed,
                one.decoder,
                one.prefix,
                one.first_index,
            )
            for one in asks
        ]
        return [[EngineSample(*row) for row in answer.result(timeout_s=600)] for answer in answers]

    def replica(self) -> psutil.Process:
        """The process of the one replica, which descends from these tests."""
        deployment.wait_until_ready(self.app, 600)
        name = f"ServeReplica:{self.app}:{deployment.SAMPLER}"
        (found,) = _descendants(psutil.Process(), name)
        return found

    def core(self) -> psutil.Process:
        """The process of vLLM's engine, a child of the replica."""
        (found,) = _descendants(self.replica(), "VLLM::EngineCore")
        return found


class Shared:
    """Starts what is asked for once, and ends it when told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ExitStack()
        self._running = False
        self._engine: Engine | None = None

    def ray(self) -> None:
        """A connected Ray of two CPUs."""
        if not self._running:
            self._open.enter_context(running(PLACE))
            self._running = True

    def engine(self) -> Engine:
        """The engine for checkpoints of the shipped base's shape, whatever their tokenizers."""
        self.ray()
        if self._engine is None:
            self._engine = self._deployed()
        return self._engine

    def stop(self) -> None:
        self._open.close()
        self._running, self._engine = False, None

    def _deployed(self) -> Engine:
        served = {
            "base": open_checkpoint(BASE),
            "run/epoch-0001": self._made("other"),
            "broken": self._made("broken"),
            "renumbered": self._made("renumbered"),
            "chat": self._made("chat"),
            "endless": self._made("endless"),
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        spec = serving_spec(STUDY, served["base"])
        app = http.deploy(spec, served, "127.0.0.1", port, KEY)
        deployment.wait_until_ready(app, 600)
        client = deployment.ServeSampler(app, spec.config)
        return Engine(app, f"http://127.0.0.1:{port}/v1", served, client)

    def _made(self, name: str) -> Checkpoint:
        folder = self._folder / name
        if folder.exists():
            return open_checkpoint(folder)
        if name == "renumbered":
            return checkpoints_tokens.renumbered(folder)
        if name in TEMPLATES:
            return checkpoints_tokens.with_template(folder, TEMPLATES[name])
        if name == "broken":
            return checkpoints.broken(folder, "not numbers")
        return checkpoints.disturbed(folder, scale=0.05)


def _descendants(process: psutil.Process, name: str) -> list[psutil.Process]:
    return [one for one in process.children(recursive=True) if name in _command(one)]


def _command(process: psutil.Process) -> str:
    """Empty for one that has ended: an engine of another test may not have been waited for."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
