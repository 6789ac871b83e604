"""What a checkpoint is asked: token ids of its own tokenizer and template, and its end tokens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.study import DecoderConfig, EvalConfig
from forkdiv.models.asked import asked, differences
from forkdiv.models.checkpoint import open_checkpoint, share_engine
from forkdiv.sample import sample_sets
from tests.checkpoints_tokens import CHATML, chat_checkpoint, edit, renumbered
from tests.fakes import TASK, an_eval
from tests.stack import BASE

CHAT = PromptConfig(template="chat")
PROMPTS = ["What is 1+2?", "And 3?"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint and a copy."""
    first = chat_checkpoint(tmp_path / "first")
    return first, Path(shutil.copytree(first, tmp_path / "second"))


def normalised(folder: Path) -> None:
    edit(folder / "tokenizer.json", normalizer={"type": "Lowercase"})


def with_bos(folder: Path) -> None:
    token = "<|im_start|>"
    pieces = [
        {"SpecialToken": {"id": token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    special = {token: {"id": token, "ids": [1], "tokens": [token]}}
    processor = {"type": "TemplateProcessing", "single": pieces, "pair": pieces}
    edit(folder / "tokenizer.json", post_processor=processor | {"special_tokens": special})


def split_otherwise(folder: Path) -> None:
    split = {"type": "Split", "pattern": {"String": "is"}, "behavior": "Removed", "invert": False}
    edit(folder / "tokenizer.json", pre_tokenizer=split)


@pytest.mark.parametrize("change", [normalised, with_bos, split_otherwise])
def test_a_tokenizer_of_its_own_gives_token_ids_of_its_own(
    pair: tuple[Path, Path], change: Callable[[Path], None]
) -> None:
    raw = PromptConfig()
    first, second = pair
    assert differences(first, second, PROMPTS, raw) == []
    change(second)
    assert asked(first, PROMPTS, raw).prompts != asked(second, PROMPTS, raw).prompts
    assert differences(first, second, PROMPTS, raw) == ["tokenizers"]
    assert share_engine(first, second)


@pytest.mark.parametrize("file", ["chat_template.jinja", "additional_chat_templates/default.jinja"])
def test_a_chat_template_of_its_own_is_used(pair: tuple[Path, Path], file: str) -> None:
    first, second = pair
    (second / file).parent.mkdir(exist_ok=True)
    (second / file).write_text("{{ messages[0]['content'] }}")
    assert differences(first, second, PROMPTS, CHAT) == ["chat templates"]
    assert open_checkpoint(first).fingerprint != open_checkpoint(second).fingerprint
    same = PromptConfig(template="chat", chat_template=str(first))
    assert same.chat_template == CHATML
    assert differences(first, second, PROMPTS, same) == []


def test_end_tokens_are_named_where_they_differ(pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "generation_config.json", eos_token_id=2)
    assert differences(*pair, PROMPTS, CHAT) == [
        "end tokens (<|endoftext|> against <|endoftext|>, <|im_end|>)"
    ]


def test_the_date_that_a_template_writes_is_a_setting(tmp_path: Path) -> None:
    folder = chat_checkpoint(tmp_path / "dated", "{{ strftime_now('%d %b %Y') }}")
    first, again = (asked(folder, PROMPTS, CHAT) for _ in range(2))
    later = asked(folder, PROMPTS, PromptConfig(template="chat", date="2027-03-04"))
    assert first == again != later


def test_samples_are_identified_by_what_the_checkpoint_saw(tmp_path: Path) -> None:
    base, other = open_checkpoint(BASE), renumbered(tmp_path / "other")
    evaluation = an_eval(TASK, None, DecoderConfig(), PromptConfig(), EvalConfig())
    first, second = (
        sample_sets.identity(evaluation, checkpoint).config for checkpoint in (base, other)
    )
    assert first["stop_ids"] == (1,) != second["stop_ids"]
    assert first["prompt_ids"] != second["prompt_ids"]
    few = an_eval(TASK, None, DecoderConfig(), PromptConfig(), EvalConfig(problems=6))
    assert sample_sets.identity(few, base) == sample_sets.identity(evaluation, base)


def test_a_checkpoint_that_is_not_trained_yet_is_identified_as_when_it_is(tmp_path: Path) -> None:
    evaluation = an_eval(TASK, None, DecoderConfig(), PromptConfig(), EvalConfig())
    base = open_checkpoint(BASE)
    planned = replace(base, path=tmp_path / "later", start=BASE)
    assert sample_sets.identity(evaluation, planned) == sample_sets.identity(evaluation, base)
