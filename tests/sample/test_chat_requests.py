"""What of a chat request is answered: its messages as one prompt; the rest is refused, with what
is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.chat import pack
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.prompting import chat_text
from forkdiv.sample.chat_requests import parse, rendered
from forkdiv.sample.replies import RequestRefused
from tests.checkpoints_tokens import CHATML, chat_checkpoint

USER = {"role": "user", "content": "1 + 1?"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
THINKS = CHATML + "{% if thinks %}<think>\n{% endif %}"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **more}


@pytest.mark.parametrize(
    ("more", "param", "reason"),
    [
        ({"n": 0}, "n", "n must be 1 to 4096, got 0"),
        ({"hotness": 3}, None, "unknown arguments: hotness; allowed: "),
        ({"messages": []}, "messages", "got an empty list; allowed: one message or more"),
        ({"messages": None}, "messages", "got null"),
        ({"messages": "hello"}, "messages", "messages must be a list of messages"),
        ({"messages": [1]}, "messages", "message 1 is a number; allowed: an object"),
        ({"messages": [USER, {"role": "tool", "content": "3"}]}, "messages", "message 2 has the"),
        ({"messages": [{"role": "user"}]}, "messages", "message 1 has a content that is null"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages", "'image_url'; allowed"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages",
            "a content part without a text",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]},
            "messages",
            "message 1 has 'tool_calls', which is not supported",
        ),
        ({"messages": [{**USER, "name": "Ann"}]}, "messages", "allowed: role and content"),
        ({"tools": [{"type": "function"}]}, "tools", "tools is not supported"),
        ({"tool_choice": "auto"}, "tool_choice", "allowed: no tool_choice, or none"),
        ({"response_format": {"type": "json_object"}}, "response_format", '{"type": "text"}'),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs", "/v1/completions takes"),
        ({"chat_template": "{{ 1 }}"}, "chat_template", "start forkdiv serve with prompt.chat"),
        ({"add_generation_prompt": False}, "add_generation_prompt", "allowed: true"),
        ({"continue_final_message": True}, "continue_final_message", "always a new message"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "chat_template_kwargs"),
        ({"modalities": ["audio"]}, "modalities", "allowed: text"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "fewer or shorter messages"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs", "chat_template_kwargs is a list"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "is reserved"),
        ({"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs", "is reserved"),
        ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs", "not the name of a variab"),
        (
            {"chat_template_kwargs": {"a": "x" * 70_000}},
            "chat_template_kwargs",
            "too long: got 700",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(
    more: dict[str, Any], param: str | None, reason: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse(body(**more))
    assert refused.value.reply["status"] == 400
    error = refused.value.reply["body"]["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error"
    assert reason in error["message"] and "\n" not in error["message"]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint(chat_checkpoint(tmp_path_factory.mktemp("m") / "thinker", THINKS), "thinker")


def test_a_developer_is_the_system_and_an_empty_entry_or_a_type_means_nothing() -> None:
    developer = {"role": "developer", "content": "Be brief."}
    noted: dict[str, Any] = {**USER, "type": "text", "name": None, "tool_calls": []}
    _, prompt, _ = parse({"model": "m", "messages": [developer, noted], "tools": []})
    assert prompt == pack([{**developer, "role": "system"}, USER])


def text(checkpoint: Checkpoint, args: dict[str, Any], config: PromptConfig) -> str:
    return rendered(pack([USER]), args, checkpoint, load_tokenizer(checkpoint.path), config)


def test_the_prompt_is_that_of_sampling_with_the_arguments_of_request_and_settings(
    thinker: Checkpoint,
) -> None:
    plain = PromptConfig(template="chat", system="Be brief.")
    tokenizer = load_tokenizer(thinker.path)
    assert text(thinker, {}, plain) == chat_text(tokenizer, pack([USER]), plain)
    thinking = plain.model_copy(update={"template_args": {"thinks": True}})
    assert text(thinker, {}, thinking) == text(thinker, {"thinks": True}, plain)
    assert text(thinker, {"thinks": False}, thinking) == text(thinker, {}, plain)
    assert text(thinker, {}, thinking).endswith("<think>\n")


def test_the_prompt_is_rendered_in_chat_whatever_the_template_of_the_settings(
    thinker: Checkpoint,
) -> None:
    chat = text(thinker, {}, PromptConfig(template="chat"))
    assert text(thinker, {}, PromptConfig()) == chat


@pytest.mark.parametrize(
    ("template", "args", "reason"),
    [
        (None, {}, "has no chat template, so it cannot answer messages.*/v1/completions"),
        (CHATML, {"thinks": True}, "does not read thinks; allowed: none; correct"),
        ("{{ raise_exception('no users here') }}", {}, "refuses a prompt: got no users here"),
        ("{% for i in range(10**9) %}{{ i }}{% endfor %}", {}, "refuses a prompt|exceeds a limit"),
        ("{% if %}", {}, "does not parse"),
        ("{{ '' }}", {}, "renders these messages as no text"),
    ],
)
def test_messages_that_a_template_cannot_render_are_refused(
    tmp_path: Path, template: str | None, args: dict[str, Any], reason: str
) -> None:
    checkpoint = Checkpoint(chat_checkpoint(tmp_path / "m", template), "m")
    with pytest.raises(RequestRefused, match=reason) as refused:
        text(checkpoint, args, PromptConfig())
    assert refused.value.reply["status"] == 400
