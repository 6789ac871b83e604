"""vLLM's handlers of OpenAI-compatible requests on the warm engine, one for each model name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.engine import WarmEngine

if TYPE_CHECKING:
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels


class Handlers:
    """The handlers on the engine that is running; a restart replaces the engine and with it the
    handlers. `served` maps model names to checkpoints."""

    def __init__(self, engine: WarmEngine, served: Mapping[str, Checkpoint]) -> None:
        self._engine = engine
        self._served = served
        self._made: dict[tuple[str, str], Any] = {}
        self._made_for: Any = None

    def completions(self, name: str) -> OpenAIServingCompletion:
        """Returns the handler of prompts for the model `name`."""
        return self._handler("completions", name)

    def chat(self, name: str) -> OpenAIServingChat:
        """Returns the handler of messages for the model `name`. It encodes the text in the
        attribute `rendered_prompt` of a request, in place of rendering its messages."""
        return self._handler("chat", name)

    def _handler(self, kind: str, name: str) -> Any:
        if self._made_for is not self._engine.llm:
            self._made, self._made_for = {}, self._engine.llm
        if (kind, name) not in self._made:
            make = _completions if kind == "completions" else _chat
            self._made[kind, name] = make(self._engine.llm, self._models(name))
        return self._made[kind, name]

    def _models(self, name: str) -> OpenAIServingModels:
        from vllm.entrypoints.openai.models.protocol import BaseModelPath
        from vllm.entrypoints.openai.models.serving import OpenAIServingModels

        model = BaseModelPath(name, str(self._served[name].path))
        return OpenAIServingModels(self._engine.llm, [model])


def _completions(llm: Any, models: OpenAIServingModels) -> OpenAIServingCompletion:
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
    from vllm.renderers.online_renderer import OnlineRenderer

    renderer = OnlineRenderer(llm.model_config, llm.renderer, **_renderer_settings())
    return OpenAIServingCompletion(llm, models, online_renderer=renderer, request_logger=None)


def _chat(llm: Any, models: OpenAIServingModels) -> OpenAIServingChat:
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.renderers.online_renderer import OnlineRenderer

    class RenderedPrompts(OnlineRenderer):  # type: ignore[misc]
        """Encodes the prompt that forkdiv rendered: vLLM itself would run the checkpoint's chat
        template, a program, in this process and without limits."""

        async def render_chat(self, request: Any, *, skip_mm_cache: bool = False) -> Any:
            return [], await self.preprocess_cmpl(request, [request.rendered_prompt])

    return OpenAIServingChat(
        llm,
        models,
        response_role="assistant",
        online_renderer=RenderedPrompts(llm.model_config, llm.renderer, **_renderer_settings()),
        request_logger=None,
        chat_template=None,
        chat_template_content_format="string",
    )


def _renderer_settings() -> dict[str, Any]:
    return {
        "request_logger": None,
        "chat_template": None,
        "chat_template_content_format": "string",
    }
