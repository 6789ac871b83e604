"""The sampler as a Ray Serve application: requests name their checkpoint, a replica answers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from ray.serve.schema import ApplicationStatus

from forkdiv.checkpoint import Checkpoint
from forkdiv.config import DecoderConfig, EngineConfig
from forkdiv.engine import EngineDead, EngineSpec, WarmEngine, environment
from forkdiv.errors import InvalidResult, UserError
from forkdiv.sample import Failed, Request, Response

POLL_S = 0.5
REPLICA_CPUS = 0.1


class Sampler:
    """One replica: one warm engine."""

    def __init__(self, spec: EngineSpec) -> None:
        self._engine = WarmEngine(spec)

    async def sample(
        self,
        checkpoint: tuple[str, str],
        prompt: str,
        n: int,
        seed: int,
        decoder: dict[str, Any],
        prefix: str = "",
        first_index: int = 0,
    ) -> list[tuple[tuple[int, ...], str, str]]:
        """`n` samples as (token ids, text, finish); see `WarmEngine.sample`."""
        path, fingerprint = checkpoint
        try:
            sampled = await self._engine.sample(
                Checkpoint(Path(path), fingerprint),
                prompt,
                n,
                seed,
                DecoderConfig(**decoder),
                prefix,
                first_index,
            )
        except EngineDead:
            # A replica without its engine must not go on failing requests until Serve's next
            # health check: gone at once, it is replaced, and requests wait for the new one.
            os._exit(1)
        return [(one.token_ids, one.text, one.finish) for one in sampled]

    async def swaps(self) -> list[dict[str, Any]]:
        """Every swap so far, with its error against the saved files and its seconds."""
        return self._engine.swaps

    async def check_health(self) -> None:
        """Called by Serve, which replaces a replica whose engine died."""
        await self._engine.alive()


def deploy(spec: EngineSpec) -> str:
    """Start an application of this driver's own; returns its name without waiting.

    Its own, since on a shared cluster the first study to end would take the sampler of the
    others with it, and one that runs older code would go on answering.
    """
    # Serve sets its own level on import; its notes would stand between the study's lines
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # no HTTP proxy: the study talks through handles, and a port fewer is a port fewer in use
    serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    text = json.dumps(asdict(spec), sort_keys=True, default=str)
    own = ray.get_runtime_context().get_job_id()
    name = f"forkdiv-sampler-{own}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    config = spec.config
    gpus = config.tensor_parallel if spec.device == "gpu" else 0
    deployment = serve.deployment(
        Sampler,
        name="Sampler",
        num_replicas=config.replicas,
        # requests above the engine's own batch wait in it, so that it never runs dry
        max_ongoing_requests=2 * config.requests_in_flight,
        ray_actor_options={
            "num_cpus": REPLICA_CPUS,
            "num_gpus": gpus,
            "runtime_env": {"env_vars": environment(spec)},
        },
        # an engine that swaps or compiles answers late, which is no reason to kill it
        health_check_timeout_s=120,
        max_constructor_retry_count=2,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    target = serve.RunTarget(target=deployment.bind(spec), name=name, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)
    return name


def wait(name: str, timeout_s: float) -> DeploymentHandle:
    """The application's handle once a replica is up.

    Raises InvalidResult with Serve's own message where it cannot start.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        app = serve.status().applications.get(name)
        status = app.status if app else None
        if status == ApplicationStatus.RUNNING:
            return serve.get_app_handle(name)
        if app and status == ApplicationStatus.DEPLOY_FAILED:
            raise InvalidResult(f"the sampler {name} did not start: {app.message}")
        time.sleep(POLL_S)
    raise InvalidResult(f"the sampler {name} was not up within {timeout_s:g} s: {status}")


@dataclass(frozen=True)
class ServeSampler:
    """Sends requests to the application, a bounded number at a time, and retries failed ones."""

    app: str
    config: EngineConfig

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | Failed]:
        handle = wait(self.app, self.config.start_timeout_s)
        doomed: list[str] = []  # what fails every request of this checkpoint alike
        flying: deque[tuple[Request, DeploymentResponse, int]] = deque()

        def send(request: Request, failures: int) -> None:
            answer = handle.sample.remote(
                (str(checkpoint.path), checkpoint.fingerprint),
                request.problem.prompt,
                request.n,
                request.seed,
                decoder.model_dump(),
                request.prefix,
                request.first_index,
            )
            flying.append((request, answer, failures))

        for request in requests:
            if doomed:
                yield Failed(request, doomed[0])
                continue
            send(request, 0)
            if len(flying) < self.config.requests_in_flight * self.config.replicas:
                continue
            if answered := self._receive(flying, send, doomed):
                yield answered
        while flying:
            if answered := self._receive(flying, send, doomed):
                yield answered

    def _receive(
        self,
        flying: deque[tuple[Request, DeploymentResponse, int]],
        send: Any,
        doomed: list[str],
    ) -> Response | Failed | None:
        """The oldest answer; a failed request goes to the end of the line, up to a limit."""
        request, answer, failures = flying.popleft()
        try:
            samples = answer.result(timeout_s=self.config.request_timeout_s)
        except (ray.exceptions.RayError, TimeoutError) as error:
            if failures >= self.config.max_failures or _final(error):
                message = (
                    f"sampling problem {request.problem.id} failed {failures + 1} times; "
                    f"the last error: {_cause(error)}"
                )
                if _final(error):
                    doomed.append(message)
                return Failed(request, message)
            wait(self.app, self.config.start_timeout_s)
            send(request, failures + 1)
            return None
        return Response(request, samples)


def _final(error: Exception) -> bool:
    """An unproved swap or a checkpoint of another shape fails the same way again."""
    cause = getattr(error, "cause", None)
    return isinstance(cause, InvalidResult | UserError)


def _cause(error: Exception) -> str:
    lines = [line for line in str(getattr(error, "cause", None) or error).splitlines() if line]
    return lines[-1].strip() if lines else type(error).__name__
