"""OpenAI-compatible completions of any served checkpoint, with vLLM's request handler on the warm
engine.

vLLM parses and answers the requests, so parameters, streaming and log-probabilities behave as in
its own server. forkdiv adds this: the checkpoint that a request names is swapped in with its own
tokenizer and end tokens, and kept loaded until the request is answered; arguments that vLLM would
ignore, or that would end its engine, are refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.errors import InvalidResult, UserError, shortened
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.engine import WarmEngine
from forkdiv.sample.token_ids import UnanswerableRequest, check_ids

GRAMMAR = (
    "allowed: a grammar that compiles, and that the model's vocabulary can express; correct "
    "response_format or structured_outputs"
)
MAX_MESSAGE = 1000  # characters
MAX_SAMPLES = 4096  # per prompt, the limit of `eval.samples`
Reply = dict[str, Any]


class Completions:
    """Handles the bodies of POST /v1/completions. `served` maps model names to checkpoints."""

    def __init__(self, engine: WarmEngine, served: Mapping[str, Checkpoint]) -> None:
        self._engine = engine
        self._served = served
        self._handlers: dict[str, Any] = {}
        self._handlers_engine: Any = None  # the engine that the handlers are bound to

    async def replies(self, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """Yields one `{"status", "body"}`, or a sequence of `{"chunk"}` if the body asks for a
        stream. A request that cannot be answered gets a status from 400 to 503 and a message."""
        try:
            request, checkpoint = self._parse(body)
        except _Refused as refused:
            yield refused.reply
            return
        try:
            async with self._engine.holding(checkpoint):
                self._engine.use_tokenizer_of(checkpoint)
                async for reply in self._vllm_replies(request):
                    yield reply
        except (UserError, InvalidResult) as error:
            yield problem(503, f"{body['model']} cannot be served: {error}")

    def _parse(self, body: Mapping[str, Any]) -> tuple[Any, Checkpoint]:
        """Returns the request as vLLM's CompletionRequest, and its checkpoint. Raises _Refused."""
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
        except (AttributeError, TypeError, LookupError) as error:
            # vLLM's own validators read some fields before their types are checked
            wrong = f"an argument has a value of another type than vLLM's API allows ({error})"
            raise _Refused(400, wrong) from error
        if request.model_extra:
            unknown = ", ".join(sorted(request.model_extra))
            allowed = ", ".join(sorted(CompletionRequest.model_fields))
            raise _Refused(400, f"unknown arguments: {unknown}; allowed: {allowed}")
        if not 1 <= request.n <= MAX_SAMPLES:
            raise _Refused(400, f"n must be 1 to {MAX_SAMPLES}, got {request.n}")
        if any(item in ("", []) for item in request.prompt if not isinstance(item, int)):
            raise _Refused(400, "a prompt of the list is empty; allowed: strings or token ids")
        try:
            _check_token_ids(request, self._engine.vocabulary)
        except UnanswerableRequest as error:
            raise _Refused(400, str(error)) from error
        self._check_grammar(request, self._served[name])
        return request, self._served[name]

    def _check_grammar(self, request: Any, checkpoint: Checkpoint) -> None:
        """Raises _Refused for a grammar on a checkpoint whose vocabulary is not that of the
        engine's first checkpoint: vLLM's engine compiles grammars for that one only."""
        if not _has_grammar(request):
            return
        first = own_tokenizer(self._engine.spec.shape_of)
        own = self._engine.own_tokenizer(checkpoint)
        if first.tokenizer.get_vocab() != own.tokenizer.get_vocab():
            raise _Refused(
                400,
                f"{request.model} has another vocabulary than the checkpoint that the engine was "
                "started with, so it cannot follow a grammar here; allowed: no response_format and "
                "no structured_outputs; serve it in a process of its own",
            )

    async def _vllm_replies(self, request: Any) -> AsyncIterator[Reply]:
        from vllm.entrypoints.openai.completion.protocol import CompletionResponse
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.exceptions import GenerationError, VLLMClientError

        try:
            response = await self._handler(request.model).create_completion(request)
        except (VLLMClientError, ValueError, TypeError) as error:
            # vLLM raises them for arguments out of range; its own server also answers 400
            yield problem(400, str(error))
            return
        except GenerationError as error:
            if not _has_grammar(request):
                raise
            # vLLM ends a request so if it cannot compile the grammar, or no token continues it
            yield problem(
                400, f"the grammar of the request cannot be followed ({error}); {GRAMMAR}"
            )
            return
        if isinstance(response, ErrorResponse):
            yield problem(response.error.code, response.error.message)
        elif isinstance(response, CompletionResponse):
            yield {"status": 200, "body": response.model_dump(mode="json")}
        else:
            async for chunk in response:
                yield {"chunk": chunk}

    def _handler(self, name: str) -> Any:
        """Returns vLLM's handler for the model `name` on the current engine; a restart replaces the
        engine."""
        from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
        from vllm.entrypoints.openai.models.protocol import BaseModelPath
        from vllm.entrypoints.openai.models.serving import OpenAIServingModels
        from vllm.renderers.online_renderer import OnlineRenderer

        llm = self._engine.llm
        if self._handlers_engine is not llm:
            self._handlers, self._handlers_engine = {}, llm
        if name not in self._handlers:
            renderer = OnlineRenderer(
                llm.model_config,
                llm.renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
            )
            model = BaseModelPath(name, str(self._served[name].path))
            self._handlers[name] = OpenAIServingCompletion(
                llm,
                OpenAIServingModels(llm, [model]),
                online_renderer=renderer,
                request_logger=None,
            )
        return self._handlers[name]


def _has_grammar(request: Any) -> bool:
    form = request.response_format
    return bool(request.structured_outputs) or (form is not None and form.type != "text")


def _check_token_ids(request: Any, vocabulary: int) -> None:
    """Raises UnanswerableRequest for a token id, or a rank, beyond the vocabulary."""
    prompt = request.prompt if isinstance(request.prompt, list) else []
    check_ids((item for item in prompt if isinstance(item, int)), vocabulary, "prompt")
    for item in prompt:
        if isinstance(item, list):
            check_ids(item, vocabulary, "prompt")
    for name in ("stop_token_ids", "allowed_token_ids", "logprob_token_ids"):
        check_ids(getattr(request, name) or (), vocabulary, name)
    biased = [key for key in request.logit_bias or () if key.lstrip("-").isdecimal()]
    check_ids(map(int, biased), vocabulary, "logit_bias")
    ranks = (request.vllm_xargs or {}).get("first_tokens")
    if isinstance(ranks, int) and ranks > vocabulary:
        raise UnanswerableRequest(
            f"vllm_xargs.first_tokens is larger than the vocabulary: got {ranks}; allowed: at most "
            f"{vocabulary}; lower it"
        )


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.reply = problem(status, message)


def problem(status: int, message: str) -> Reply:
    """Returns an error reply in OpenAI's format; a long message, which repeats a value of the
    request, is shortened."""
    message = shortened(message, MAX_MESSAGE)
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return {"status": status, "body": {"error": error}}


def models(served: Mapping[str, Path]) -> dict[str, Any]:
    """Returns the body of GET /v1/models."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "forkdiv", "root": str(path)}
        for name, path in served.items()
    ]
    return {"object": "list", "data": data}


def _invalid_field(error: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    return f"{field}: {error['msg']}, got {error['input']!r:.80}"


def _shortened(names: Mapping[str, Any]) -> str:
    shown = list(names)[:8]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
