"""Finds of the fuzzer at the readers of checkpoints: each is refused in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.core.config.study import SftConfig
from forkdiv.core.errors import UserError
from forkdiv.models import digests
from forkdiv.models.architecture import same_architecture
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.loading import check_loadable, load_tokenizer
from forkdiv.models.prompting import prompt_ids
from forkdiv.models.saved import saved_checkpoints
from forkdiv.models.template_render import TemplateRenderer
from forkdiv.train import memory
from tests.stack import BASE
from tuning import own_dtype

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "epoch-0003"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def with_value(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "value", [None, 5, ["a" * 64], {"value": "a" * 64}, "A" * 64, "a" * 63], ids=str
)
def test_a_digest_that_is_no_sha256_is_refused(folder: Path, value: Any) -> None:
    (folder / "digests.json").write_text(json.dumps({"model.safetensors": value}))
    assert "digests.json is damaged" in refusal(lambda: digests.check_digests(folder))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "", "a\0b", "x" * 3000])
def test_a_digest_of_a_file_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "digests.json").write_text(json.dumps({name: "a" * 64}))
    assert "digests.json is damaged" in refusal(lambda: digests.check_digests(folder))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 5000, '{"a":'])
def test_digests_that_are_no_json_object_are_refused(folder: Path, text: str) -> None:
    (folder / "digests.json").write_text(text)
    assert "digests.json" in refusal(lambda: digests.check_digests(folder))


def test_every_digit_of_a_digest_is_compared(folder: Path) -> None:
    digests.write_digests(folder)
    recorded = json.loads((folder / "digests.json").read_text())
    digest = recorded["model.safetensors"]
    recorded["model.safetensors"] = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    (folder / "digests.json").write_text(json.dumps(recorded))
    assert "have changed" in refusal(lambda: digests.check_digests(folder))


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", '{"epoch-0003": [[]]}', '{"epoch-0003": NaN}', '{"epoch-0003": Infinity}'),
        *('{"epoch-0003": null}', '{"../x": 1}', '{"epoch-0003": -1}', '{"epoch-0003": true}'),
        *("{}", "[" * 5000),
    ],
)
def test_a_damaged_record_of_saves_is_refused(folder: Path, content: str) -> None:
    (folder.parent / "saves.json").write_text(content)
    assert "saves.json" in refusal(lambda: saved_checkpoints(folder.parent))


@pytest.mark.parametrize(
    "values",
    [
        {"vocab_size": [25]},
        {"hidden_act": [[]]},
        {"pad_token_id": 32},
        {"tie_word_embeddings": {"value": True}},
    ],
    ids=str,
)
def test_a_config_that_transformers_cannot_use_is_refused(
    folder: Path, values: dict[str, Any]
) -> None:
    with_value(folder / "config.json", **values)
    assert "cannot be loaded" in refusal(lambda: check_loadable(folder))
    content = json.loads((folder / "config.json").read_text())
    assert "config.json" in refusal(lambda: memory.shape(content, SftConfig()))


def test_a_generation_config_that_transformers_cannot_use_is_refused(folder: Path) -> None:
    with_value(folder / "generation_config.json", pad_token_id=[0])
    assert "cannot be loaded" in refusal(lambda: check_loadable(folder))


def test_two_configs_are_not_compared_if_one_cannot_be_read_by_transformers(folder: Path) -> None:
    with_value(folder / "config.json", max_position_embeddings=True)
    assert "config.json" in refusal(lambda: same_architecture(folder, BASE))


def test_a_tokenizer_setting_that_fails_at_its_first_use_is_refused(folder: Path) -> None:
    with_value(folder / "tokenizer_config.json", model_max_length=[512])
    assert "tokenizer" in refusal(lambda: load_tokenizer(folder))


@pytest.mark.parametrize("file", ["", "..", "x" * 5000, "a\0b", "/etc/passwd"])
def test_an_index_that_names_no_file_of_the_folder_is_refused(folder: Path, file: str) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": file}}))
    assert "is not a file of the folder" in refusal(lambda: open_checkpoint(folder))


def test_a_small_file_that_cannot_be_read_is_refused(folder: Path) -> None:
    """/proc/self/mem counts as a regular file, and reading it fails."""
    (folder / "special_tokens_map.json").symlink_to("/proc/self/mem")
    assert "special_tokens_map.json" in refusal(lambda: open_checkpoint(folder))


def test_a_template_that_writes_an_unpaired_surrogate_is_refused() -> None:
    config = PromptConfig(template="chat", chat_template="{{ '\\ud800' }}")
    message = refusal(lambda: prompt_ids(load_tokenizer(BASE), "a", config))
    assert "unpaired surrogate" in message


def test_a_special_token_without_a_row_in_the_embedding_is_refused(folder: Path) -> None:
    """tokenizer.json fits the model; special_tokens_map.json adds a token to it at loading."""
    (folder / "special_tokens_map.json").write_text('{"eos_token": " "}')
    assert "more tokens than the model" in refusal(lambda: own_tokenizer(folder))


@pytest.mark.parametrize("layers", [1001, 2**63, 10**400])
def test_an_impossible_number_of_layers_is_refused_at_once(folder: Path, layers: int) -> None:
    with_value(folder / "config.json", num_hidden_layers=layers)
    assert "number of layers" in refusal(lambda: open_checkpoint(folder))


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "config.json"])
def test_a_small_file_of_a_gigabyte_is_refused_without_reading_it(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(2**30)
    message = refusal(lambda: open_checkpoint(folder))
    assert f"{name} is too large: got 1,073,741,824 bytes" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_config_in_another_encoding_than_transformers_reads_is_refused(
    folder: Path, encoding: str
) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text, encoding=encoding)
    assert "no readable config.json" in refusal(lambda: open_checkpoint(folder))


def test_an_interrupted_rendering_leaves_no_answer_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renderer = TemplateRenderer()

    def render(template: str) -> str:
        turns = [{"role": "user", "content": "a"}]
        return renderer.render(template, turns, {}, "2026-01-01", "a test")

    def interrupted(child: object) -> bytes:
        raise KeyboardInterrupt

    assert render("first") == "first"
    with monkeypatch.context() as patched:
        patched.setattr(renderer, "_read_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render("second")
    assert render("third") == "third"
    renderer.close()


@pytest.mark.parametrize("damage", ["deep", "unreadable", "pipe"])
def test_a_folder_of_a_template_whose_settings_cannot_be_read_is_refused(
    folder: Path, damage: str
) -> None:
    file = folder / "tokenizer_config.json"
    file.unlink()
    if damage == "deep":
        file.write_text('{"chat_template": ' + "[" * 5000)
    elif damage == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/proc/self/mem")
    message = refusal(
        lambda: load(None, ["prompt.template=chat", f"prompt.chat_template={folder}"])
    )
    assert "tokenizer_config.json" in message


@pytest.mark.parametrize("value", ["x" * 5000, "no-such-file"])
def test_a_template_that_no_file_can_have_the_name_of_is_refused(value: str) -> None:
    message = refusal(lambda: load(None, [f"prompt.chat_template={value}"]))
    assert "names no template: got no such file or folder" in message


@pytest.mark.parametrize("text", ["[" * 5000, "", "3", '{"dtype": []}'])
def test_the_number_format_of_a_damaged_base_is_not_set(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert own_dtype.dtype_of(folder) is None
