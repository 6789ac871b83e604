"""The sampler as a Ray Serve application. Requests name their checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from ray.serve.schema import ApplicationStatus

from forkdiv.core.config.place import ENGINE_SHARE
from forkdiv.core.config.study import DecoderConfig, EngineConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.client import (
    CheckpointUnservable,
    EngineLost,
    RequestRejected,
    RequestSender,
    RetryableFailure,
)
from forkdiv.sample.completions import Completions
from forkdiv.sample.drivers import end_with, running_drivers, this_driver
from forkdiv.sample.engine import WarmEngine
from forkdiv.sample.engine_settings import REPLICA_CPUS, EngineSpec, environment
from forkdiv.sample.replies import Reply
from forkdiv.sample.sample_sets import FailedRequest, Request, Response
from forkdiv.sample.swap_queue import EngineAsleep
from forkdiv.sample.token_ids import UnanswerableRequest
from forkdiv.sample.vllm_engine import EngineDead

POLL_S = 0.5
SPARE_REQUESTS = 4
COUNT_TIMEOUT_S = 5.0
SAMPLER = "Sampler"  # name of the Serve deployment with the engines
PREFIX = "forkdiv-sampler"  # of the names of applications, before the driver's job


class Sampler:
    """A replica with one warm engine. HTTP clients name checkpoints by the keys of `served`; the
    handles of a study pass the checkpoint itself."""

    def __init__(
        self,
        spec: EngineSpec,
        served: Mapping[str, Checkpoint] | None = None,
        trainings: Any = None,
        driver: str | None = None,
    ) -> None:
        """`trainings` is the actor `Trainings` of an engine that takes turns with training. With
        `driver`, the id of a job, the application is deleted when that job has ended, however it
        ended: the driver of a killed process or a lost host cannot delete it itself."""
        if driver is not None:
            end_with(driver, serve.get_replica_context().app_name)
        self._engine = WarmEngine(spec, trainings.running.remote if trainings else None)
        self._completions = Completions(self._engine, served or {})

    async def sample(
        self,
        checkpoint: Checkpoint,
        prompt: str,
        n: int,
        seed: int,
        decoder: DecoderConfig,
        prefix: str = "",
        first_index: int = 0,
    ) -> list[tuple[tuple[int, ...], str, str]]:
        """Returns `n` samples as (token ids, text, finish); see `WarmEngine.sample`."""
        try:
            samples = await self._engine.sample(
                checkpoint, prompt, n, seed, decoder, prefix, first_index
            )
        except EngineDead:
            # Without its engine the replica would fail requests until Serve's next health check.
            # It exits, Serve replaces it, and requests wait for the new replica.
            os._exit(1)
        return [(sample.token_ids, sample.text, sample.finish) for sample in samples]

    async def complete(self, body: dict[str, Any], chat: bool = False) -> AsyncIterator[Reply]:
        """Yields the replies to an HTTP request; see `Completions.replies`."""
        if name := serve.get_multiplexed_model_id():
            await self._register_model(name)
        try:
            async with aclosing(self._completions.replies(body, chat)) as replies:
                async for reply in replies:
                    yield reply
        except EngineDead:
            os._exit(1)  # as above

    @serve.multiplexed(max_num_models_per_replica=1)  # type: ignore[untyped-decorator]
    async def _register_model(self, name: str) -> str:
        """Tells Serve's router which checkpoint this replica has loaded. It does not swap: the
        engine does that, after the requests in flight are answered."""
        return name

    async def free(self) -> str:
        """Frees the engine's memory for a training run that is registered; returns how."""
        try:
            return await self._engine.free()
        except EngineDead:
            os._exit(1)  # as above; a new replica starts its engine at a request

    async def swaps(self) -> list[dict[str, Any]]:
        """Returns every swap to a checkpoint so far; it is proved if it has no `problems`."""
        return self._engine.weights.swaps

    async def tokens_drawn(self) -> tuple[str, int | None]:
        """Returns the replica's id, and the number of tokens that its engine has drawn so far; None
        while it draws none."""
        return serve.get_replica_context().replica_id.unique_id, self._engine.tokens_drawn

    async def seconds(self) -> dict[str, float]:
        """Returns the seconds of the engine's start: vLLM's imports, and the engine itself."""
        return self._engine.seconds

    async def check_health(self) -> None:
        """Raises EngineDead if the engine died; Serve calls it and replaces the replica."""
        await self._engine.alive()


def app_name(spec: EngineSpec) -> str:
    """Returns the name of this driver's application for engines with the settings `spec`.

    Applications are not shared between drivers: on a shared cluster, the first study to end would
    delete the sampler of the others, and a sampler with older code could still serve requests.
    """
    text = json.dumps(asdict(spec), sort_keys=True, default=str)
    return f"{PREFIX}-{this_driver()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def deploy(spec: EngineSpec, trainings: Any = None) -> str:
    """Starts an application for this driver only; returns its name without waiting. `trainings` is
    the actor `Trainings` with that name, for an engine that takes turns with training."""
    # Serve sets its log level on import; its log lines would appear between the progress lines
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # no HTTP proxy: the study uses handles, and this avoids binding an extra port
    serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    delete_orphans()
    name = app_name(spec)
    target = serve.RunTarget(
        target=sampler_deployment(spec).bind(spec, None, trainings, this_driver()),
        name=name,
        route_prefix=None,
    )
    serve.run_many([target], wait_for_applications_running=False)
    return name


def delete_orphans() -> list[str]:
    """Deletes the samplers of drivers that have ended; returns their names. A sampler deletes
    itself, but not while no replica of it can start."""
    running = running_drivers()
    names = [
        name
        for name in serve.status().applications
        if name.startswith(f"{PREFIX}-") and name.split("-")[2] not in running
    ]
    for name in names:
        serve.delete(name)
    return names


def sampler_deployment(spec: EngineSpec) -> serve.Deployment:
    """Returns the deployment of the sampler with the number of replicas of `spec.config`."""
    config = spec.config
    gpus: float = config.tensor_parallel if spec.device == "gpu" else 0
    if gpus and config.takes_turns:
        gpus = ENGINE_SHARE
    return serve.deployment(
        Sampler,
        name=SAMPLER,
        **_replica_settings(config),
        # requests beyond the engine's batch wait in its queue, so that the engine stays busy; and
        # some more, so that a question about the tokens drawn does not wait behind them
        max_ongoing_requests=2 * config.requests_in_flight + SPARE_REQUESTS,
        ray_actor_options={
            "num_cpus": REPLICA_CPUS,
            "num_gpus": gpus,
            "runtime_env": {"env_vars": environment(spec)},
        },
        # an engine that swaps or compiles responds late and must not be killed for it
        health_check_timeout_s=120,
        max_constructor_retry_count=2,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )


def wait_until_ready(name: str, timeout_s: float) -> DeploymentHandle:
    """Waits until a replica is running; returns a handle of the application's sampler deployment.

    Raises InvalidResult with Serve's message if it cannot start, and after `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        app = serve.status().applications.get(name)
        status = app.status if app else None
        if status == ApplicationStatus.RUNNING:
            return serve.get_deployment_handle(SAMPLER, name)
        if app and status == ApplicationStatus.DEPLOY_FAILED:
            raise InvalidResult(f"the sampler {name} failed to start: {app.message}")
        time.sleep(POLL_S)
    raise InvalidResult(
        f"the sampler {name} was not ready within {timeout_s:g} s (status {status}); "
        "raise place.engine.start_timeout_s if it only needs longer"
    )


def _replica_settings(config: EngineConfig) -> dict[str, Any]:
    if config.max_replicas is None:
        return {"num_replicas": config.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": config.replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.requests_in_flight,
        }
    }


@dataclass(frozen=True)
class ServeSampler:
    """Sends requests to the Serve application; see `RequestSender`."""

    app: str
    config: EngineConfig

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        """Yields the results in any order; a request that fails after all retries yields a
        FailedRequest."""
        most = max(self.config.replicas, self.config.max_replicas or 0)
        at_once = self.config.requests_in_flight * most
        channel = _ServeChannel(self.app, self.config, checkpoint, decoder)
        yield from RequestSender(channel, at_once, self.config.max_failures).results(requests)

    @contextmanager
    def giving_way(self, name: str) -> Iterator[str]:
        """Frees the memory of an engine that takes turns with training, for the training run `name`
        in the block; yields how it was freed. Requests of other trials wait for the block's end."""
        trainings = ray.get_actor(self.app)
        ray.get(trainings.begin.remote(name, _this_actor()))
        try:
            yield self._freed()
        finally:
            ray.get(trainings.end.remote(name))

    def _freed(self) -> str:
        while True:
            handle = wait_until_ready(self.app, self.config.start_timeout_s)
            try:
                how: str = handle.free.remote().result(timeout_s=self.config.request_timeout_s)
                return how
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError:
                time.sleep(POLL_S)  # the replica ended: the engine of a new one is not started

    def tokens_drawn(self) -> int | None:
        """Returns the tokens drawn by all replicas that answer; None while none does. A call
        reaches one replica, so it asks a few times more than there are replicas."""
        app = serve.status().applications.get(self.app)
        if app is None or app.status != ApplicationStatus.RUNNING:
            return None
        handle = serve.get_deployment_handle(SAMPLER, self.app)
        most = max(self.config.replicas, self.config.max_replicas or 0)
        asked = [handle.tokens_drawn.remote() for _ in range(1 if most == 1 else 3 * most)]
        try:
            counts = dict(one.result(timeout_s=COUNT_TIMEOUT_S) for one in asked).values()
            return None if None in counts else sum(counts)
        except (ray.exceptions.RayError, TimeoutError):
            return None  # a replica that swaps or was lost: the next time


class _ServeChannel:
    """A channel to the application, for samples of one checkpoint with one decoder."""

    def __init__(
        self, app: str, config: EngineConfig, checkpoint: Checkpoint, decoder: DecoderConfig
    ) -> None:
        self._app = app
        self._config = config
        self._checkpoint = checkpoint
        self._decoder = decoder
        self._handle: DeploymentHandle | None = None

    def send(self, request: Request) -> tuple[Request, DeploymentResponse]:
        if self._handle is None:
            self._handle = wait_until_ready(self._app, self._config.start_timeout_s)
        response = self._handle.sample.remote(
            self._checkpoint,
            request.problem.prompt,
            request.n,
            request.seed,
            self._decoder,
            request.prefix,
            request.first_index,
        )
        return request, response

    def receive(self, ticket: tuple[Request, DeploymentResponse]) -> Response:
        while True:
            try:
                return self._received(ticket)
            except EngineAsleep:
                trainings = ray.get_actor(self._app)
                while ray.get(trainings.running.remote()):
                    time.sleep(POLL_S)
                ticket = self.send(ticket[0])

    def _received(self, ticket: tuple[Request, DeploymentResponse]) -> Response:
        request, response = ticket
        try:
            return Response(request, response.result(timeout_s=self._config.request_timeout_s))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UnanswerableRequest):
                raise RequestRejected(_cause(error)) from error
            if isinstance(error.cause, InvalidResult | UserError):
                raise CheckpointUnservable(_cause(error)) from error
            if isinstance(error.cause, EngineAsleep):
                raise EngineAsleep from error
            raise RetryableFailure(_cause(error)) from error
        except ray.exceptions.RayError as error:
            wait_until_ready(self._app, self._config.start_timeout_s)
            raise EngineLost(_cause(error)) from error
        except TimeoutError as error:
            raise RetryableFailure(
                f"no response within {self._config.request_timeout_s:g} s"
            ) from error


def _this_actor() -> Any:
    """Returns the handle of the actor of this process; None in the driver."""
    if ray.get_runtime_context().get_actor_id() is None:
        return None
    return ray.get_runtime_context().current_actor


def _cause(error: Exception) -> str:
    lines = [line for line in str(getattr(error, "cause", None) or error).splitlines() if line]
    return lines[-1].strip() if lines else type(error).__name__
