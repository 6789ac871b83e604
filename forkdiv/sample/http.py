"""HTTP for the sampler: an OpenAI-compatible API.

    GET  /v1/models             the names of the served checkpoints
    POST /v1/completions        completions of a prompt by one checkpoint
    POST /v1/chat/completions   answers of one checkpoint to messages, with its own chat template
    GET  /health                200 when the route is ready

Serve's model multiplexing sends a request to a replica that has its checkpoint loaded, if there is
one.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.deployment import sampler_deployment
from forkdiv.sample.drivers import this_driver
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.sample.replies import Reply, RequestRefused, models, problem

APP = "forkdiv"
MAX_BODY_BYTES = 64 * 2**20  # of one request
ROUTE_CPUS = 0.1
api = FastAPI(title="forkdiv", docs_url=None, redoc_url=None)


# Defined before the class: its decorator pickles the app with all functions that the routes call.
async def _chunks(first: Reply, replies: DeploymentResponseGenerator[Reply]) -> AsyncIterator[str]:
    try:
        yield first["chunk"]
        async for reply in replies:
            # the status is already sent, so a later error is sent as an event of the stream
            yield reply["chunk"] if "chunk" in reply else f"data: {json.dumps(reply['body'])}\n\n"
    finally:
        replies.cancel()  # no effect on a stream that has ended; else the client is gone


def _object(text: bytes) -> dict[str, Any]:
    """Returns the body of a request. Raises RequestRefused."""
    if len(text) > MAX_BODY_BYTES:
        size = f"the request body has {len(text)} bytes; allowed: at most {MAX_BODY_BYTES}"
        raise RequestRefused(413, size)
    try:
        body = json.loads(text)
        # an unpaired surrogate is no text: tokenizers raise errors of their own
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        wrong = "the request body has an unpaired surrogate (\\ud800 …)"
        raise RequestRefused(400, wrong) from error
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, f"the request body is not JSON: {error}") from error
    if not isinstance(body, dict):
        kind = type(body).__name__
        raise RequestRefused(400, f"the request body is not a JSON object: got a {kind}")
    return body


def _json(reply: Reply) -> Response:
    return JSONResponse(reply["body"], status_code=reply["status"])


def _no_key() -> Reply:
    return problem(
        401, "the API key is missing or wrong; send it in the header Authorization: Bearer KEY"
    )


@serve.deployment(ray_actor_options={"num_cpus": ROUTE_CPUS}, max_ongoing_requests=10_000)
@serve.ingress(api)
class Route:
    """Reads the model name of a request and passes the request to a replica."""

    def __init__(
        self, sampler: DeploymentHandle, served: Mapping[str, Path], key: str | None
    ) -> None:
        self._sampler = sampler.options(stream=True)
        self._served = served
        self._key = key

    @api.get("/health")
    async def health(self) -> Response:
        return Response("ok")

    @api.get("/v1/models")
    async def models(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return _json(_no_key())
        return JSONResponse(models(self._served))

    @api.post("/v1/completions")
    async def completions(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return _json(_no_key())
        return await self._answer(request, chat=False)

    @api.post("/v1/chat/completions")
    async def chat_completions(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return _json(_no_key())
        return await self._answer(request, chat=True)

    async def _answer(self, request: Request, chat: bool) -> Response:
        try:
            body = _object(await request.body())
        except RequestRefused as refused:
            return _json(refused.reply)
        name = str(body.get("model"))
        # for an unknown name, Serve must not search for a replica with that model
        id = name if name in self._served else ""
        replies = self._sampler.options(multiplexed_model_id=id).complete.remote(body, chat)
        try:
            first = await anext(aiter(replies))
        except ray.exceptions.RayTaskError as error:
            return _json(problem(500, f"the sampler failed: {error.cause!r}"))
        except ray.exceptions.RayError:
            # the replica exited with its engine, and Serve starts another
            return _json(problem(503, "the engine ended and is restarting; send the request again"))
        if "chunk" not in first:
            return _json(first)
        return StreamingResponse(_chunks(first, replies), media_type="text/event-stream")

    def _is_authorized(self, request: Request) -> bool:
        if self._key is None:
            return True
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        return secrets.compare_digest(key.encode(), self._key.encode())


def deploy(
    spec: EngineSpec, served: Mapping[str, Checkpoint], host: str, port: int, key: str | None
) -> str:
    """Starts the application on `host:port`; returns its name without waiting for the engine."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port, "request_timeout_s": None},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    bound = application(spec, served, key, this_driver())
    target = serve.RunTarget(target=bound, name=APP, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)
    return APP


def application(
    spec: EngineSpec,
    served: Mapping[str, Checkpoint],
    key: str | None,
    driver: str | None = None,
) -> serve.Application:
    """Returns the route and its engine as an application of Ray Serve, not started. It ends with
    the job `driver`, if that is given."""
    paths = {name: checkpoint.path for name, checkpoint in served.items()}
    bound: serve.Application = Route.bind(  # type: ignore[attr-defined]
        sampler_deployment(spec).bind(spec, dict(served), None, driver), paths, key
    )
    return bound
