"""Requests to POST /v1/chat/completions: their messages as the prompt that sampling would use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.core.chat import ASSISTANT, ROLES, SYSTEM, USER, content_text, pack
from forkdiv.core.chat_template import check_template_args
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.errors import UserError, shortened
from forkdiv.core.json_types import type_name
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.prompting import chat_text, read_template, unread_args
from forkdiv.sample.replies import RequestRefused
from forkdiv.sample.request_checks import check_known, check_samples, validated

# what clients send back of an earlier answer, or of their own form of messages, without a meaning
EMPTY: tuple[Any, ...] = (None, "", [], {}, False)
DEVELOPER = "developer"  # OpenAI's later name of the system role
REFUSED = {
    "tools": "no tools",
    "functions": "no functions",
    "tool_choice": "no tool_choice, or none",
    "function_call": "no function_call",
    "modalities": "text, which is the default",
    "audio": "no audio",
    "structured_outputs": "no structured_outputs; POST /v1/completions takes them",
    "chat_template": "no chat_template; start forkdiv serve with prompt.chat_template",
    "continue_final_message": "no continue_final_message; the answer is always a new message",
    "add_generation_prompt": "true, which is the default",
    "add_special_tokens": "false, which is the default: the chat template writes special tokens",
    "reasoning_effort": "no reasoning_effort; give the chat template's own arguments in "
    "chat_template_kwargs",
    "use_beam_search": "no use_beam_search",
    "echo": "no echo",
    "documents": "no documents",
    "truncate_prompt_tokens": "no truncate_prompt_tokens; send fewer or shorter messages",
    "thinking_token_budget": "no thinking_token_budget",
    "mm_processor_kwargs": "messages of text only",
    "media_io_kwargs": "messages of text only",
}
# values that ask for nothing of the kind
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tool_choice": ("none",),
    "function_call": ("none",),
    "modalities": (["text"],),
    "add_generation_prompt": (True,),
}


def parse(body: Mapping[str, Any]) -> tuple[Any, str, dict[str, Any]]:
    """Returns the request as vLLM's ChatCompletionRequest, its packed prompt, and the arguments of
    the chat template. Raises RequestRefused."""
    # for OpenAI, null is the default
    arguments = {name: value for name, value in body.items() if value is not None}
    _check_arguments(arguments)
    messages = _messages(arguments.get("messages"))
    arguments = {
        name: value
        for name, value in arguments.items()
        if name not in REFUSED and name != "response_format"
    }
    args = _template_args(arguments.pop("chat_template_kwargs", {}))
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    request = validated(
        ChatCompletionRequest.model_validate, {**arguments, "messages": list(messages)}
    )
    check_known(request, without=REFUSED)
    check_samples(request.n)
    return request, pack(messages), args


def rendered(
    prompt: str, args: Mapping[str, Any], checkpoint: Checkpoint, tokenizer: Any, own: PromptConfig
) -> str:
    """Returns the packed prompt in the chat template of the checkpoint, as sampling with `own`
    renders it; `args` come after those of the settings. Raises RequestRefused."""
    config = own.model_copy(
        update={"template": "chat", "template_args": {**own.template_args, **args}}
    )
    try:
        template = config.chat_template or read_template(checkpoint.path)
        if template is None:
            raise RequestRefused(
                400,
                f"the checkpoint {checkpoint.path} has no chat template, so it cannot answer "
                "messages; allowed: a checkpoint with a chat template; send the prompt as text to "
                "/v1/completions, or start forkdiv serve with prompt.template=chat "
                "prompt.chat_template=FILE",
                "messages",
            )
        unread, read = unread_args(template, args, str(checkpoint.path))
        if unread:
            raise RequestRefused(
                400,
                f"the chat template of {checkpoint.path} does not read {', '.join(unread)}; "
                f"allowed: {read}; correct chat_template_kwargs",
                "chat_template_kwargs",
            )
        text = chat_text(tokenizer, prompt, config)
    except UserError as error:
        raise RequestRefused(400, str(error), "messages") from error
    if not text:
        raise RequestRefused(400, "the chat template renders these messages as no text", "messages")
    return text


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    for name, allowed in REFUSED.items():
        if name not in arguments or arguments[name] in NEUTRAL.get(name, EMPTY):
            continue
        shown = shortened(repr(arguments[name]), 80)
        raise RequestRefused(400, f"{name} is not supported: got {shown}; allowed: {allowed}", name)
    form = arguments.get("response_format")
    if form not in (None, {"type": "text"}):
        raise RequestRefused(
            400,
            f"response_format is not supported: got {shortened(repr(form), 80)}; allowed: "
            '{"type": "text"}; POST /v1/completions takes grammars',
            "response_format",
        )


def _messages(value: object) -> list[dict[str, str]]:
    """Returns the messages with a role and a text each. Raises RequestRefused."""
    if not isinstance(value, list) or not value:
        came = "an empty list" if value == [] else type_name(value)
        raise RequestRefused(
            400,
            f"messages must be a list of messages: got {came}; allowed: one message or more, such "
            'as {"role": "user", "content": "…"}',
            "messages",
        )
    try:
        return [_message(item, number) for number, item in enumerate(value, 1)]
    except ValueError as error:
        raise RequestRefused(400, str(error), "messages") from error


def _message(item: object, number: int) -> dict[str, str]:
    if not isinstance(item, Mapping):
        raise ValueError(f"message {number} is {type_name(item)}; allowed: an object")
    role = SYSTEM if item.get("role") == DEVELOPER else item.get("role")
    if role not in ROLES:
        shown = shortened(repr(item.get("role")), 40)
        allowed = ", ".join((SYSTEM, DEVELOPER, USER, ASSISTANT))
        raise ValueError(f"message {number} has the role {shown}; allowed: {allowed}")
    for key, entry in item.items():
        # lm-evaluation-harness writes the type "text" beside the content
        known = key in ("role", "content") or (key == "type" and entry == "text")
        if not known and entry not in EMPTY:
            raise ValueError(
                f"message {number} has {shortened(repr(key), 40)}, which is not supported: got "
                f"{shortened(repr(entry), 80)}; allowed: role and content"
            )
    content = content_text(item.get("content"), number)
    if not isinstance(content, str):
        raise ValueError(
            f"message {number} has a content that is {type_name(content)}; allowed: text, or a "
            "list of text parts"
        )
    return {"role": str(role), "content": content}


def _template_args(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestRefused(
            400,
            f"chat_template_kwargs is {type_name(value)}; allowed: an object, such as "
            '{"enable_thinking": false}',
            "chat_template_kwargs",
        )
    try:
        check_template_args(value)
    except ValueError as error:
        raise RequestRefused(400, str(error), "chat_template_kwargs") from error
    return value
