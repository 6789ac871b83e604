"""HTTP for the sampler: an OpenAI-compatible route beside the handles that studies use.

    GET  /v1/models        the names of the served checkpoints
    POST /v1/completions   samples of one of them
    GET  /health           200 once the route is up

Requests go to a replica that holds their checkpoint, where one does: Serve's multiplexing knows.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import ray
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle

from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.completions import Reply, models, problem
from forkdiv.sample.deployment import sampler_deployment
from forkdiv.sample.engine_settings import EngineSpec

APP = "forkdiv"
MAX_BODY_BYTES = 64 * 2**20  # of one request's body
ROUTE_CPUS = 0.1
api = FastAPI(title="forkdiv", docs_url=None, redoc_url=None)


# Above the class: Serve copies the app, with all that its routes call, where it is decorated.
async def _chunks(first: Reply, answers: AsyncIterator[Reply]) -> AsyncIterator[str]:
    yield first["chunk"]
    async for one in answers:
        # a failure in mid-stream has no status any more: it is said in the stream
        yield one["chunk"] if "chunk" in one else f"data: {json.dumps(one['body'])}\n\n"


def _json(answer: Reply) -> Response:
    return JSONResponse(answer["body"], status_code=answer["status"])


def _no_key() -> Reply:
    return problem(
        401, "the API key is missing or wrong; send it in the header Authorization: Bearer KEY"
    )


@serve.deployment(ray_actor_options={"num_cpus": ROUTE_CPUS}, max_ongoing_requests=10_000)
@serve.ingress(api)
class Route:
    """Reads a request as far as its model's name, and hands it to a replica."""

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
        if not self._may(request):
            return _json(_no_key())
        return JSONResponse(models(self._served))

    @api.post("/v1/completions")
    async def completions(self, request: Request) -> Response:
        if not self._may(request):
            return _json(_no_key())
        text = await request.body()
        if len(text) > MAX_BODY_BYTES:
            size = f"the request body has {len(text)} bytes; allowed: at most {MAX_BODY_BYTES}"
            return _json(problem(413, size))
        try:
            body = json.loads(text)
        except ValueError as error:
            return _json(problem(400, f"the request body is not JSON: {error}"))
        if not isinstance(body, dict):
            kind = type(body).__name__
            return _json(problem(400, f"the request body is not a JSON object: got a {kind}"))
        named = str(body.get("model"))
        # a name that nobody serves must not make Serve look for its replica
        id = named if named in self._served else ""
        answers = aiter(self._sampler.options(multiplexed_model_id=id).complete.remote(body))
        try:
            first = await anext(answers)
        except ray.exceptions.RayTaskError as error:
            return _json(problem(500, f"the sampler failed: {error.cause!r}"))
        except ray.exceptions.RayError:
            # the replica ended with its engine; another one starts
            return _json(problem(503, "the engine ended and is restarting; send the request again"))
        if "chunk" not in first:
            return _json(first)
        return StreamingResponse(_chunks(first, answers), media_type="text/event-stream")

    def _may(self, request: Request) -> bool:
        if self._key is None:
            return True
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        return secrets.compare_digest(given.encode(), self._key.encode())


def deploy(
    spec: EngineSpec, served: Mapping[str, Checkpoint], host: str, port: int, key: str | None
) -> str:
    """Start the application on `host:port`; returns its name without waiting for the engine."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port, "request_timeout_s": None},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    paths = {name: one.path for name, one in served.items()}
    bound = Route.bind(  # type: ignore[attr-defined]
        sampler_deployment(spec).bind(spec, dict(served)), paths, key
    )
    target = serve.RunTarget(target=bound, name=APP, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)
    return APP
