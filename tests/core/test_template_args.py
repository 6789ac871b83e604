"""Arguments of chat templates in the settings."""

from __future__ import annotations

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.errors import UserError

CHAT = "prompt.template=chat"


@pytest.mark.parametrize(
    "overrides",
    [
        ["prompt.template_args={enable_thinking: false}"],
        ["prompt.template_args.enable_thinking=false"],
    ],
)
def test_arguments_are_set_as_a_mapping_or_one_by_one(overrides: list[str]) -> None:
    assert load(None, [CHAT, *overrides]).prompt.template_args == {"enable_thinking": False}


def test_only_arguments_that_are_set_are_part_of_the_identity() -> None:
    plain = PromptConfig(template="chat").model_dump()
    assert "template_args" not in plain
    assert PromptConfig(template="chat", template_args={}).model_dump() == plain
    written = PromptConfig(template="chat", template_args={"level": 3}).model_dump()
    assert written == plain | {"template_args": {"level": 3}}


def test_the_end_of_thinking_is_part_of_the_identity_only_if_it_is_set() -> None:
    assert "thinking_end" not in load(None).eval.model_dump()
    ended = load(None, ["eval.thinking_end='</reflect>'"]).eval
    assert ended.model_dump()["thinking_end"] == "</reflect>"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("{messages: []}", "the template argument 'messages' is reserved"),
        ("{tools: []}", "the template argument 'tools' is reserved"),
        ("{add_generation_prompt: false}", "'add_generation_prompt' is reserved"),
        ("{bos_token: x}", "the template argument 'bos_token' is reserved"),
        ("{'enable thinking': false}", "'enable thinking' is not the name of a variable"),
        ("{__class__: 1}", "'__class__' is not the name of a variable"),
        ("{level: .nan}", "a template argument is NaN or infinite; allowed: finite numbers"),
        (f"{{text: {'x' * 70_000}}}", "the template arguments are too long: got 700"),
        ("[enable_thinking]", "prompt.template_args: got"),
        ("enable_thinking", "prompt.template_args: got"),
        ("{1: 2}", "prompt.template_args"),
    ],
)
def test_arguments_that_a_template_cannot_be_given_are_refused_in_one_line(
    override: str, reason: str
) -> None:
    with pytest.raises(UserError) as refused:
        load(None, [CHAT, f"prompt.template_args={override}"])
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    assert len(str(refused.value)) < 900


def test_arguments_without_a_chat_template_are_refused() -> None:
    with pytest.raises(UserError, match=r"has an effect with prompt\.template=chat only, got"):
        load(None, ["prompt.template_args={enable_thinking: false}"])
