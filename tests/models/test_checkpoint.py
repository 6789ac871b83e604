"""Checkpoints: a folder that is none is refused before any work, and named by its content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from forkdiv.core.errors import UserError
from forkdiv.models.checkpoint import (
    check_end_token,
    check_vocabulary,
    open_checkpoint,
    read_config,
    share_engine,
)
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 128, "model_type": "llama"}


def weights(file: Path, *values: float) -> None:
    """A safetensors file of one tensor."""
    save_file({file.stem: np.array(values, np.float32)}, file)


def tokenizer(words: list[str], kind: str = "WordLevel") -> str:
    vocabulary = {word: i for i, word in enumerate(words)}
    extra: dict[str, Any] = {"merges": []} if kind == "BPE" else {"unk_token": words[0]}
    return json.dumps({"model": {"type": kind, "vocab": vocabulary, **extra}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What save_pretrained leaves, as far as it is judged: config, weights, tokenizer."""
    path = tmp_path / "base"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    weights(path / "model.safetensors", 1.0)
    (path / "tokenizer.json").write_text(tokenizer(["a", "b", "path:"]))
    return path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def refused(path: Path) -> str:
    return refusal(lambda: open_checkpoint(path))


def rewrite(path: Path, **values: Any) -> None:
    (path / "config.json").write_text(json.dumps({**CONFIG, **values}))


def test_a_whole_folder_opens_at_its_absolute_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    checkpoint = open_checkpoint(Path("base"))
    assert checkpoint.path == folder.resolve()
    assert checkpoint == open_checkpoint(folder)


def test_a_missing_folder_is_refused_with_the_verb_that_makes_one(tmp_path: Path) -> None:
    message = refused(tmp_path / "none")
    assert str(tmp_path / "none") in message and "does not exist" in message
    assert "forkdiv pretrain" in message


def test_a_file_is_not_a_checkpoint(folder: Path) -> None:
    assert "does not exist" in refused(folder / "config.json")


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_a_folder_without_a_readable_config_is_refused(folder: Path, content: bytes | None) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    assert "no readable config.json" in refused(folder)
    assert "no readable config.json" in refusal(lambda: read_config(folder))


@pytest.mark.parametrize(
    "architectures", [["BertForMaskedLM"], ["T5ForConditionalGeneration"], [], None]
)
def test_another_architecture_is_refused_and_named(
    folder: Path, architectures: list[str] | None
) -> None:
    rewrite(folder, architectures=architectures)
    message = refused(folder)
    assert "not a causal language model" in message and "ForCausalLM" in message
    assert (architectures or ["no architecture"])[0] in message


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    message = refused(folder)
    assert "no weights" in message and "*.safetensors" in message


def test_pickled_weights_are_refused_with_the_way_to_export(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refused(folder)
    assert "pytorch_model.bin" in message and "safe_serialization=True" in message


def test_a_folder_without_a_fast_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "vocab.txt")
    message = refused(folder)
    assert "no tokenizer" in message and "tokenizer.json" in message


def test_the_digest_follows_the_content_and_not_the_path(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    first, second = open_checkpoint(folder), open_checkpoint(copy)
    assert first.path != second.path
    assert first.fingerprint == second.fingerprint and len(first.fingerprint) == 32


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_digest_changes_with_one_byte_of_any_file(folder: Path, name: str) -> None:
    before = open_checkpoint(folder).fingerprint
    if name == "model.safetensors":
        weights(folder / name, 1.5)
    else:
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert open_checkpoint(folder).fingerprint != before


def test_the_digest_covers_every_shard_and_its_name(folder: Path) -> None:
    weights(folder / "other.safetensors", 2.0)
    two = open_checkpoint(folder).fingerprint
    weights(folder / "other.safetensors", 3.0)
    changed = open_checkpoint(folder).fingerprint
    (folder / "other.safetensors").rename(folder / "third.safetensors")
    renamed = open_checkpoint(folder).fingerprint
    assert len({two, changed, renamed}) == 3


def test_the_digest_reads_weights_beyond_the_first_block(folder: Path) -> None:
    values = [0.0] * (2**20 + 10)
    weights(folder / "model.safetensors", *values)
    before = open_checkpoint(folder).fingerprint
    weights(folder / "model.safetensors", *values[:-1], 1.0)
    assert open_checkpoint(folder).fingerprint != before


def test_notes_beside_the_checkpoint_leave_its_digest_alone(folder: Path) -> None:
    before = open_checkpoint(folder).fingerprint
    (folder / "README.md").write_text("notes")
    assert open_checkpoint(folder).fingerprint == before


def test_a_vocabulary_that_knows_the_task_is_accepted(folder: Path) -> None:
    words = build(GraphBranchingConfig()).vocabulary()
    (folder / "tokenizer.json").write_text(tokenizer([*words, "<eos>"]))
    check_vocabulary(folder, words)


def test_words_the_tokenizer_does_not_know_are_named(folder: Path) -> None:
    few = build(GraphBranchingConfig(names=16)).vocabulary()
    more = build(GraphBranchingConfig(names=18)).vocabulary()
    (folder / "tokenizer.json").write_text(tokenizer(few))
    message = refusal(lambda: check_vocabulary(folder, more))
    assert "got q r;" in message and "task.names" in message


def test_a_subword_tokenizer_knows_every_word(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(tokenizer(["a"], kind="BPE"))
    check_vocabulary(folder, ["anything"])


def test_a_tokenizer_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert "no readable tokenizer" in refusal(lambda: check_vocabulary(folder, ["a"]))


def test_shapes_are_the_same_but_for_notes(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    rewrite(other, _name_or_path="x", transformers_version="5.0", torch_dtype="bfloat16")
    assert share_engine(folder, other)
    rewrite(other, hidden_size=64)
    assert not share_engine(folder, other)


def test_a_missing_shard_is_refused(folder: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (folder / "model.safetensors").rename(folder / shards[0])
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert shards[1] in refused(folder)


@pytest.mark.parametrize("content", ["[]", '{"architectures": [3]}'])
def test_a_config_of_another_form_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    refused(folder)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_vocabulary_that_cannot_be_read_is_refused(folder: Path, content: str | None) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    refusal(lambda: check_vocabulary(folder, ["a"]))


def test_the_digest_changes_with_the_end_token_of_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    before = open_checkpoint(folder).fingerprint
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<pad>"}')
    assert open_checkpoint(folder).fingerprint != before


def test_a_checkpoint_that_ends_its_responses_otherwise_is_refused(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    check_end_token(folder, "<eos>")
    message = refusal(lambda: check_end_token(folder, "<end>"))
    assert "got <eos>; allowed: <end>" in message


@pytest.mark.parametrize("content", [None, "no json", "{}", "[]"])
def test_a_tokenizer_that_names_no_end_token_is_refused(folder: Path, content: str | None) -> None:
    if content is not None:
        (folder / "tokenizer_config.json").write_text(content)
    assert "tokenizer_config.json" in refusal(lambda: check_end_token(folder, "<eos>"))
