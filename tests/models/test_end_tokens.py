"""End tokens: every token that a file of the checkpoint names ends a response, wherever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.end_tokens import end_ids, named_ends
from forkdiv.models.loading import load_tokenizer
from tests.checkpoints_tokens import chat_checkpoint, edit
from tests.stack import BASE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chat_checkpoint(tmp_path / "model")


def ends(folder: Path) -> tuple[int, ...]:
    return end_ids(folder, load_tokenizer(folder))


def test_the_shipped_base_has_one_end_token() -> None:
    assert ends(BASE) == (1,)
    assert named_ends(BASE) == ["<eos>"]


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"eos_token_id": 2}),
        ("config.json", {"eos_token_id": [0, 2]}),
        ("config.json", {"text_config": {"eos_token_id": 2}}),
        ("generation_config.json", {"eos_token_id": 2}),
        ("generation_config.json", {"eos_token_id": [2]}),
        ("special_tokens_map.json", {"eos_token": "<|im_end|>"}),
        ("special_tokens_map.json", {"eos_token": {"content": "<|im_end|>"}}),
    ],
)
def test_an_end_token_is_found_in_any_file_that_names_one(
    folder: Path, file: str, values: dict[str, Any]
) -> None:
    edit(folder / file, **values)
    assert 2 in ends(folder)
    assert "<|im_end|>" in named_ends(folder)


def test_the_end_token_of_the_tokenizer_adds_to_those_of_the_configs(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token="<|im_end|>")
    assert ends(folder) == (0, 2)


def test_ids_that_the_model_does_not_have_are_left_out(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=[2, -1, 10_000])
    assert ends(folder) == (0, 2)


def test_a_tokenizer_without_an_end_token_gets_that_of_the_config(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    edit(folder / "config.json", eos_token_id=2)
    assert load_tokenizer(folder).eos_token == "<|im_end|>"


def test_checkpoints_that_differ_in_an_end_token_only_are_not_mixed_up(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=0)
    before, first = own_tokenizer(folder).ends, open_checkpoint(folder).fingerprint
    edit(folder / "generation_config.json", eos_token_id=[0, 2])
    assert (before, own_tokenizer(folder).ends) == ((0,), (0, 2))
    assert open_checkpoint(folder).fingerprint != first
