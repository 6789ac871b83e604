"""Chat templates: rendered as transformers does, within limits, and refused in one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from forkdiv.core.chat import pack
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.errors import UserError
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.prompting import chat_text
from forkdiv.models.template_render import TemplateRenderer
from tests.checkpoints_tokens import CHATML, chat_checkpoint

TURNS = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": '1 < 2 & "x" é'},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "why?"},
]
ACCEPTED = [
    CHATML,
    "{{ eos_token }}{% for m in messages if m.role != 'system' %}{{ m | tojson }}{% endfor %}",
    "{%- set ns = namespace(seen=false) -%}\n  {% for m in messages %}\n"
    "    {% if loop.first %}{% continue %}{% endif %}\n    {{ m['content'].strip() | upper }}\n"
    "{% set ns.seen = true %}{% endfor %}\n{{ ns.seen }}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% macro turn(m) %}[{{ m.role }}]{% endmacro %}{{ turn(messages[-1]) }}{{ tools is none }}",
]


@pytest.mark.parametrize("template", ACCEPTED)
def test_a_template_gives_the_text_that_transformers_gives(tmp_path: Path, template: str) -> None:
    tokenizer = load_tokenizer(chat_checkpoint(tmp_path / "model", template))
    expected = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert chat_text(tokenizer, pack(TURNS), PromptConfig(template="chat")) == expected


@pytest.fixture(scope="module")
def renderer() -> TemplateRenderer:
    return TemplateRenderer()


def rendered(renderer: TemplateRenderer, template: str) -> str:
    return renderer.render(template, TURNS[1:2], {"bos_token": "<s>"}, "2026-01-01", "the model")


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10000000000 }}",
        "{{ [1] * 10**10 }}",
        "{{ 'x' | center(10**10) }}",
        "{{ '%0999999999d' % 1 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set n = namespace(a='x') %}{% for i in range(60) %}{% set n.a = n.a + n.a %}"
        "{% endfor %}",
        "{{ (messages[0].content | length) ** (10 ** 9) }}",
    ],
)
def test_a_template_that_never_ends_or_takes_all_memory_is_stopped(
    renderer: TemplateRenderer, template: str
) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="the chat template of the model exceeds a limit: got"):
        rendered(renderer, template)
    assert time.monotonic() - started < 20
    assert rendered(renderer, "{{ bos_token }}") == "<s>", "the next template is rendered"


def test_a_template_that_refuses_a_prompt_is_quoted(renderer: TemplateRenderer) -> None:
    with pytest.raises(
        UserError, match=r"refuses a prompt: got No system turns!; allowed: .*prompt\.system"
    ) as caught:
        rendered(renderer, "{{ raise_exception('No system\n turns!') }}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", ["{% if %}", "{{ messages", "{% endfor %}"])
def test_a_template_that_does_not_parse_is_refused(
    renderer: TemplateRenderer, template: str
) -> None:
    with pytest.raises(UserError, match="does not parse: got line 1: "):
        rendered(renderer, template)


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{{ messages[7].x }}", "{% include 'a' %}"]
)
def test_a_template_that_fails_is_refused(renderer: TemplateRenderer, template: str) -> None:
    with pytest.raises(UserError, match="refuses a prompt"):
        rendered(renderer, template)


def test_the_same_conversation_is_always_the_same_prompt(renderer: TemplateRenderer) -> None:
    text = "{{ range(1000) | list | random }} {{ strftime_now('%d %b %Y %H:%M') }}"
    first = rendered(renderer, text)
    assert first.endswith(" 01 Jan 2026 00:00")
    assert [rendered(TemplateRenderer(), text), rendered(renderer, text)] == [first, first]


def test_a_fork_renders_with_a_process_of_its_own(renderer: TemplateRenderer) -> None:
    rendered(renderer, "a")
    pid = os.fork()
    if not pid:
        os._exit(0 if rendered(renderer, "b") == "b" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert rendered(renderer, "c") == "c"
