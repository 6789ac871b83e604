"""OpenAI-compatible completions of any served checkpoint, by vLLM's own handler on the warm engine.

vLLM reads and answers the requests, so that every parameter, streaming and log-probabilities are
as its own server has them. What is ours: the checkpoint that a request names is swapped in and
held while it is answered, and what vLLM would ignore is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.engine import WarmEngine

MAX_SAMPLES = 4096  # of one prompt, as `eval.samples` has it
Reply = dict[str, Any]


class Completions:
    """Answers to the bodies of POST /v1/completions.

    `served` are the checkpoints by the names that requests may use.
    """

    def __init__(self, engine: WarmEngine, served: Mapping[str, Checkpoint]) -> None:
        self._engine = engine
        self._served = served
        self._handlers: dict[str, Any] = {}
        self._of: Any = None  # the engine that the handlers are bound to

    async def answer(self, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """One `{"status", "body"}`, or `{"chunk"}` after `{"chunk"}` where the body asks for a
        stream. A request that cannot be answered has a status of 400 to 503 and a message."""
        try:
            request, checkpoint = self._read(body)
        except _Refused as refused:
            yield refused.answer
            return
        try:
            async with self._engine.holding(checkpoint):
                async for answer in self._answered(request):
                    yield answer
        except (UserError, InvalidResult) as error:
            yield problem(503, f"{body['model']} cannot be served: {error}")

    def _read(self, body: Mapping[str, Any]) -> tuple[Any, Checkpoint]:
        """The request in vLLM's form. Raises _Refused."""
        from pydantic import ValidationError
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest
        from vllm.exceptions import VLLMClientError

        name = body.get("model")
        if not isinstance(name, str) or name not in self._served:
            allowed = _shortened(self._served)
            raise _Refused(404, f"the model {name!r} is not served here; allowed: {allowed}")
        if not body.get("prompt"):
            raise _Refused(
                400,
                "the prompt is empty; allowed: a string, a list of token ids, or a list of either",
            )
        try:
            request = CompletionRequest.model_validate(dict(body))
        except ValidationError as error:
            problems = error.errors(include_url=False)[:3]
            raise _Refused(400, "; ".join(map(_invalid_field, problems))) from error
        except VLLMClientError as error:
            raise _Refused(400, str(error)) from error
        if request.model_extra:
            unknown = ", ".join(sorted(request.model_extra))
            allowed = ", ".join(sorted(CompletionRequest.model_fields))
            raise _Refused(400, f"unknown arguments: {unknown}; allowed: {allowed}")
        if not 1 <= request.n <= MAX_SAMPLES:
            raise _Refused(400, f"n must be 1 to {MAX_SAMPLES}, got {request.n}")
        if any(item in ("", []) for item in request.prompt if not isinstance(item, int)):
            raise _Refused(400, "a prompt of the list is empty; allowed: strings or token ids")
        return request, self._served[name]

    async def _answered(self, request: Any) -> AsyncIterator[Reply]:
        from vllm.entrypoints.openai.completion.protocol import CompletionResponse
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.exceptions import VLLMClientError

        try:
            made = await self._handler(request.model).create_completion(request)
        except (VLLMClientError, ValueError, TypeError) as error:
            # what vLLM raises on arguments out of range: its own server answers 400 to these too
            yield problem(400, str(error))
            return
        if isinstance(made, ErrorResponse):
            yield problem(made.error.code, made.error.message)
        elif isinstance(made, CompletionResponse):
            yield {"status": 200, "body": made.model_dump(mode="json")}
        else:
            async for chunk in made:
                yield {"chunk": chunk}

    def _handler(self, name: str) -> Any:
        """vLLM's handler for a name, which it answers under, on the engine that runs now: a
        restart makes another one."""
        from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
        from vllm.entrypoints.openai.models.protocol import BaseModelPath
        from vllm.entrypoints.openai.models.serving import OpenAIServingModels
        from vllm.renderers.online_renderer import OnlineRenderer

        llm = self._engine.llm
        if self._of is not llm:
            self._handlers, self._of = {}, llm
        if name not in self._handlers:
            renderer = OnlineRenderer(
                llm.model_config,
                llm.renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
            )
            own = BaseModelPath(name, str(self._served[name].path))
            self._handlers[name] = OpenAIServingCompletion(
                llm,
                OpenAIServingModels(llm, [own]),
                online_renderer=renderer,
                request_logger=None,
            )
        return self._handlers[name]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = problem(status, message)


def problem(status: int, message: str) -> Reply:
    """An error in the form that OpenAI's clients read."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return {"status": status, "body": {"error": error}}


def models(served: Mapping[str, Path]) -> dict[str, Any]:
    """The answer to GET /v1/models."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "forkdiv", "root": str(path)}
        for name, path in served.items()
    ]
    return {"object": "list", "data": data}


def _invalid_field(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}, got {error['input']!r:.80}"


def _shortened(names: Mapping[str, Any]) -> str:
    shown = list(names)[:8]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
