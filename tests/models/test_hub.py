"""Models of the hub: which files are downloaded, what is refused before the weights; identity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from forkdiv.core.errors import UserError
from forkdiv.core.hub_names import ModelName
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.hub import open_model
from forkdiv.models.loading import load_model
from tests.hub_server import Hub, folder_files
from tests.stack import BASE

NAME = ModelName("org/base")
FILES = folder_files(BASE)
WEIGHTS = "model.safetensors"
SMALL = sorted(FILES.keys() - {WEIGHTS})


def ignore(message: str) -> None:
    pass


def download(name: ModelName = NAME) -> Path:
    return open_model(name).download(ignore)


def refusal(hub: Hub, files: dict[str, bytes]) -> str:
    hub.repo("org/base").push(files)
    with pytest.raises(UserError) as failed:
        download()
    assert not any("GET" in line and WEIGHTS in line for line in hub.requests)
    return str(failed.value)


def config(**changes: object) -> bytes:
    return json.dumps(json.loads(FILES["config.json"]) | changes).encode()


def test_a_model_of_the_hub_is_the_checkpoint_that_its_files_are(hub: Hub) -> None:
    commit = hub.repo("org/base").push(FILES)
    model = open_model(NAME)
    assert model.commit == commit
    lines: list[str] = []
    folder = model.download(lines.append)
    assert open_checkpoint(folder) == open_checkpoint(BASE).__class__(
        folder, open_checkpoint(BASE).fingerprint
    )
    (line,) = lines
    assert line.startswith("downloading org/base from the Hugging Face Hub: 2.9 MiB")
    assert sum(p.numel() for p in load_model(folder).parameters()) > 0
    assert open_model(NAME).download(lines.append) == folder
    assert len(lines) == 1


def test_neither_pickles_nor_code_nor_other_copies_of_the_weights_are_downloaded(hub: Hub) -> None:
    others = [
        "pytorch_model.bin", "consolidated.safetensors", "consolidated.00.pth", "modeling_x.py",
        "onnx/model.safetensors", "original/config.json", "README.md", "model.gguf",
        "training_args.bin", "optimizer.pt",
    ]  # fmt: skip
    hub.repo("org/base").push(FILES | dict.fromkeys(others, b"x"))
    folder = download()
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert found == sorted(FILES)
    assert not [line for line in hub.requests if any(line.endswith(other) for other in others)]


def test_a_model_in_several_files_is_downloaded_by_its_index(hub: Hub, tmp_path: Path) -> None:
    load_model(BASE).save_pretrained(tmp_path, max_shard_size="1MB")
    parts = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(parts) > 1
    files = FILES | folder_files(tmp_path)
    del files[WEIGHTS]
    hub.repo("org/base").push(files | {"stray.safetensors": b"x"})
    folder = download()
    assert sorted(path.name for path in folder.glob("*.safetensors")) == parts
    open_checkpoint(folder)
    del files[parts[0]]
    hub.repo("org/base").push(files)
    with pytest.raises(UserError, match=f"is incomplete on the hub: got no {parts[0]}"):
        download()


def test_a_branch_that_moves_is_another_checkpoint_and_a_commit_is_one_under_all_its_names(
    hub: Hub, tmp_path: Path
) -> None:
    repo = hub.repo("org/base")
    first = repo.push(FILES)
    before = open_checkpoint(download()).fingerprint
    shutil.copytree(BASE, tmp_path / "other")
    state = {name: value + 1 for name, value in load_file(BASE / WEIGHTS).items()}
    save_file(state, tmp_path / "other" / WEIGHTS, metadata={"format": "pt"})
    repo.push(folder_files(tmp_path / "other"))
    after = open_checkpoint(download()).fingerprint
    assert before != after
    repo.refs["v1"] = first
    names = [ModelName("org/base", "v1"), ModelName("org/base", first)]
    assert {open_checkpoint(download(name)).fingerprint for name in names} == {before}
    assert torch.equal(
        load_file(download(names[0]) / WEIGHTS)["model.norm.weight"],
        load_file(BASE / WEIGHTS)["model.norm.weight"],
    )


def test_a_model_in_the_cache_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repo("org/base").push(FILES)
    folder = download()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert download() == folder
    assert hub.requests == []


def test_weights_that_the_cache_lacks_are_refused_without_a_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/base").push(FILES)
    open_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="a part of it is in the cache"):
        download()


def test_a_model_whose_config_alone_is_needed_is_downloaded_without_its_weights(hub: Hub) -> None:
    hub.repo("org/base").push({**FILES, "config.json": config(quantization_config={"bits": 4})})
    folder = open_model(NAME, weights=False).folder
    assert sorted(path.name for path in folder.iterdir()) == SMALL


def test_a_repository_without_safetensors_is_refused(hub: Hub) -> None:
    files = {name: FILES[name] for name in SMALL} | {"pytorch_model.bin": b"x"}
    text = refusal(hub, files)
    assert "has no safetensors weights on the hub: got pytorch_model.bin" in text
    assert "refs/pr/NUMBER" in text


def test_a_repository_without_a_config_is_refused(hub: Hub) -> None:
    text = refusal(hub, {"README.md": b"x", "model-q4.gguf": b"x"})
    assert "is no model for transformers: got no config.json, but README.md, model-q4.gguf" in text
    assert "name the repository of the original weights" in text


def test_a_repository_without_a_fast_tokenizer_is_refused(hub: Hub) -> None:
    files = {name: content for name, content in FILES.items() if name != "tokenizer.json"}
    text = refusal(hub, files | {"tokenizer.model": b"x"})
    assert "has no tokenizer.json on the hub: got tokenizer.model, tokenizer_config.json" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, "brings its own Python code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantised"),
        ({"model_type": "unheard", "architectures": ["XForCausalLM"]}, "does not know"),
    ],
)
def test_what_forkdiv_cannot_load_is_refused_before_its_weights_are_downloaded(
    hub: Hub, changes: dict[str, object], reason: str
) -> None:
    assert reason in refusal(hub, {**FILES, "config.json": config(**changes)})


def test_an_adapter_is_downloaded_as_the_folder_that_peft_writes(hub: Hub) -> None:
    adapter = json.dumps({"base_model_name_or_path": "org/base"}).encode()
    files = {"adapter_config.json": adapter, "adapter_model.safetensors": b"x", "README.md": b"x"}
    hub.repo("org/adapter").push(files)
    folder = download(ModelName("org/adapter"))
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["adapter_config.json", "adapter_model.safetensors"]


def test_weights_of_another_layout_are_downloaded_where_there_are_no_others(hub: Hub) -> None:
    files = {name: content for name, content in FILES.items() if name != WEIGHTS}
    hub.repo("org/base").push(files | {"consolidated.safetensors": FILES[WEIGHTS]})
    assert [path.name for path in download().glob("*.safetensors")] == ["consolidated.safetensors"]


def test_templates_and_tokenizers_by_name_are_downloaded(hub: Hub) -> None:
    more = {"chat_template.jinja", "additional_chat_templates/tool_use.jinja", "tokenizer.v3.json"}
    hub.repo("org/base").push(FILES | dict.fromkeys(more, b"{}") | {"docs/a.jinja": b"x"})
    folder = download()
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*FILES, *more}
