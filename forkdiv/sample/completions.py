"""OpenAI-compatible completions of any served checkpoint, with vLLM's request handlers on the warm
engine.

vLLM parses and answers the requests, so parameters, streaming and log-probabilities behave as in
its own server. forkdiv adds this: the checkpoint that a request names is swapped in with its own
tokenizer and end tokens, and kept loaded until the request is answered; messages become the prompt
that sampling uses, rendered by the chat template in a process with limits; arguments that vLLM
would ignore, or that would end its engine, are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import chat_requests
from forkdiv.sample.engine import WarmEngine
from forkdiv.sample.replies import Reply, RequestRefused, first_names, problem
from forkdiv.sample.request_checks import (
    check_known,
    check_samples,
    check_token_ids,
    has_grammar,
    validated,
)
from forkdiv.sample.vllm_handlers import Handlers

GRAMMAR = (
    "allowed: a grammar that compiles, and that the model's vocabulary can express; correct "
    "response_format or structured_outputs"
)


class Completions:
    """Handles the bodies of POST /v1/completions and /v1/chat/completions. `served` maps model
    names to checkpoints."""

    def __init__(self, engine: WarmEngine, served: Mapping[str, Checkpoint]) -> None:
        self._engine = engine
        self._served = served
        self._handlers = Handlers(engine, served)

    async def replies(self, body: Mapping[str, Any], chat: bool = False) -> AsyncGenerator[Reply]:
        """Yields one `{"status", "body"}`, or a sequence of `{"chunk"}` if the body asks for a
        stream. With `chat`, the body has messages in place of a prompt. A request that cannot be
        answered gets a status from 400 to 503 and a message."""
        try:
            checkpoint = self._checkpoint(body.get("model"))
            request = await self._chat_request(body, checkpoint) if chat else self._request(body)
            check_token_ids(request, self._engine.vocabulary)
        except RequestRefused as refused:
            yield refused.reply
            return
        except UserError as error:
            yield problem(503, f"{body['model']} cannot be served: {error}")
            return
        try:
            async with self._engine.holding(checkpoint):
                self._engine.use_tokenizer_of(checkpoint)
                # closed at once where the client is gone, so that the generation ends before
                # another checkpoint is swapped in
                async with aclosing(self._vllm_replies(request, chat)) as replies:
                    async for reply in replies:
                        yield reply
        except (UserError, InvalidResult) as error:
            yield problem(503, f"{body['model']} cannot be served: {error}")

    def _checkpoint(self, name: object) -> Checkpoint:
        if not isinstance(name, str) or name not in self._served:
            allowed = first_names(self._served)
            raise RequestRefused(
                404, f"the model {name!r} is not served here; allowed: {allowed}", "model"
            )
        return self._served[name]

    def _request(self, body: Mapping[str, Any]) -> Any:
        """Returns the request as vLLM's CompletionRequest. Raises RequestRefused."""
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest

        if not body.get("prompt"):
            raise RequestRefused(
                400,
                "the prompt is empty; allowed: a string, a list of token ids, or a list of either",
            )
        request = validated(CompletionRequest.model_validate, body)
        check_known(request)
        check_samples(request.n)
        if any(item in ("", []) for item in request.prompt if not isinstance(item, int)):
            raise RequestRefused(
                400, "a prompt of the list is empty; allowed: strings or token ids"
            )
        self._check_grammar(request)
        return request

    async def _chat_request(self, body: Mapping[str, Any], checkpoint: Checkpoint) -> Any:
        """Returns the request as vLLM's ChatCompletionRequest with its rendered prompt. Raises
        RequestRefused, and UserError for a checkpoint whose tokenizer cannot be loaded."""
        request, prompt, args = chat_requests.parse(body)
        tokenizer = self._engine.own_tokenizer(checkpoint).tokenizer
        # in a thread: a template may take seconds, and other requests must not wait for it
        request.rendered_prompt = await asyncio.to_thread(
            chat_requests.rendered, prompt, args, checkpoint, tokenizer, self._engine.spec.prompt
        )
        return request

    def _check_grammar(self, request: Any) -> None:
        """Raises RequestRefused for a grammar on a checkpoint whose vocabulary is not that of the
        engine's first checkpoint: vLLM's engine compiles grammars for that one only."""
        if not has_grammar(request):
            return
        first = own_tokenizer(self._engine.spec.shape_of)
        own = self._engine.own_tokenizer(self._served[request.model])
        if first.tokenizer.get_vocab() != own.tokenizer.get_vocab():
            raise RequestRefused(
                400,
                f"{request.model} has another vocabulary than the checkpoint that the engine was "
                "started with, so it cannot follow a grammar here; allowed: no response_format and "
                "no structured_outputs; serve it in a process of its own",
            )

    async def _vllm_replies(self, request: Any, chat: bool) -> AsyncGenerator[Reply]:
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.exceptions import GenerationError, VLLMClientError

        try:
            response: Any
            if chat:
                response = await self._handlers.chat(request.model).create_chat_completion(request)
            else:
                response = await self._handlers.completions(request.model).create_completion(
                    request
                )
        except (VLLMClientError, ValueError, TypeError) as error:
            # vLLM raises them for arguments out of range; its own server also answers 400
            yield problem(400, str(error))
            return
        except GenerationError as error:
            if not has_grammar(request):
                raise
            # vLLM ends a request so if it cannot compile the grammar, or no token continues it
            yield problem(
                400, f"the grammar of the request cannot be followed ({error}); {GRAMMAR}"
            )
            return
        if isinstance(response, ErrorResponse):
            yield problem(response.error.code, response.error.message)
        elif hasattr(response, "model_dump"):
            yield {"status": 200, "body": response.model_dump(mode="json")}
        else:
            async with aclosing(response) as chunks:
                async for chunk in chunks:
                    yield {"chunk": chunk}
