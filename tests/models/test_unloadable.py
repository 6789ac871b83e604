"""Checkpoints that cannot be loaded are refused by their files, before anything starts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.models.checkpoint import check_files, open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.models.shape import context_length, vocabulary_size
from forkdiv.models.supported import is_causal_model
from tests import checkpoints
from tests.checkpoints_tokens import edit
from tests.stack import BASE
from tuning import preflight
from tuning.infer_settings import infer

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "model"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


def truncated(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 1000)


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def noise(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 4096)


def pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def subfolder(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def dangling(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("nowhere")


def index_without_tensor(folder: Path) -> None:
    names = [*load_file(folder / WEIGHTS), "model.layers.9.mlp.up_proj.weight"]
    content = {"weight_map": dict.fromkeys(names, WEIGHTS)}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


def index_outside(folder: Path) -> None:
    content = {"weight_map": {"a": f"../model/{WEIGHTS}"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


def eight_bits(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].astype(np.int8)}, folder / WEIGHTS)


def quantised(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4})


def adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    edit(folder / "adapter_config.json", base_model_name_or_path="org/base", peft_type="LORA")
    save_file({"a": np.zeros(1, np.float32)}, folder / "adapter_model.safetensors")


def adapter_beside(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="org/base", peft_type="LORA")


def remote_model(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})


def remote_tokenizer(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})


def unknown(folder: Path) -> None:
    edit(folder / "config.json", model_type="own", architectures=["OwnForCausalLM"])


def no_type(folder: Path) -> None:
    edit(folder / "config.json", model_type=None)


def long_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 25, "content": "<x>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE"}}')


def tokenizer_pipe(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")


def config_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


BROKEN: dict[Callable[[Path], None], tuple[str, ...]] = {
    truncated: ("model.safetensors cannot be read",),
    empty: ("model.safetensors cannot be read",),
    noise: ("model.safetensors cannot be read",),
    pipe: ("is not a regular file: got a pipe",),
    subfolder: ("is not a regular file: got a folder",),
    dangling: ("model.safetensors cannot be read",),
    index_without_tensor: ("is incomplete: got no tensor model.layers.9.mlp.up_proj.weight",),
    index_outside: (
        "is incomplete: got ../model/model.safetensors, which is not a file of the folder",
    ),
    eight_bits: ("is quantised: got model.layers.0.mlp.up_proj.weight of dtype I8",),
    quantised: ("is quantised", "quant_method='awq'", "use the checkpoint that it was made from"),
    adapter: ("is an adapter without a model", "of the base org/base", "forkdiv interpolate"),
    adapter_beside: ("has an adapter beside its weights", "remove adapter_config.json"),
    remote_model: ("brings its own Python code", "auto_map in config.json"),
    remote_tokenizer: ("brings its own Python code", "auto_map in tokenizer_config.json"),
    unknown: ("has an architecture that transformers", "model_type='own'"),
    no_type: ("has an architecture that transformers", "model_type=None"),
    long_tokenizer: ("has more tokens than the model: got token id 25 with an embedding of 25",),
    damaged_tokenizer: ("has no readable tokenizer: got tokenizer.json",),
    tokenizer_pipe: ("is not a regular file: got a pipe",),
    config_pipe: ("is not a regular file: got a pipe",),
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_checkpoint_that_cannot_be_loaded_is_refused_with_the_reason(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    for call in (open_checkpoint, check_files, lambda path: infer(load(None, []), [path])):
        message = refusal(lambda call=call: call(folder))  # type: ignore[misc]
        assert all(part in message for part in BROKEN[damage]), message


@pytest.mark.parametrize("how", ["missing", "of another shape"])
def test_tensors_that_are_missing_or_of_another_shape_are_found_before_work(
    folder: Path, tmp_path: Path, how: str
) -> None:
    broken = checkpoints.broken(tmp_path / "broken", how).path
    settings = [f"base={broken}", "place.dashboard=false", f"place.root={tmp_path / 'runs'}"]
    message = refusal(lambda: preflight.check(load(None, settings)))
    assert "do not match its config.json" in message
    assert "model.layers.1.mlp.up_proj.weight" in message


def test_code_of_a_checkpoint_is_never_run_or_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    remote_model(folder)
    for call in (load_model, load_tokenizer):
        assert "brings its own Python code" in refusal(lambda call=call: call(folder))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["n_positions", "max_seq_len", "max_sequence_length"])
def test_a_context_length_is_found_under_its_other_names(folder: Path, name: str) -> None:
    assert context_length({name: 20}) == 20
    assert context_length({"text_config": {"max_position_embeddings": 20}}) == 20
    assert context_length({}) is None
    assert vocabulary_size({"text_config": {"vocab_size": 7}}) == 7
    edit(folder / "config.json", max_position_embeddings=None, **{name: 20})
    with pytest.raises(UserError, match=r"do not fit the context .* at most 20"):
        preflight.check(load(None, [f"base={folder}", "place.dashboard=false"]))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = load(None, ["place.device=gpu"]).place
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    message = refusal(lambda: preflight.check_device(place))
    assert "torch 2.13.0+cpu, which was built for CPUs" in message
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cu130")
    monkeypatch.setattr(preflight, "Path", lambda name: Path("/proc/none"))
    assert "no NVIDIA device" in refusal(lambda: preflight.check_device(place))
    preflight.check_device(place.model_copy(update={"ray_address": "there:1"}))


def test_weights_in_one_file_beside_others_that_an_index_names_are_refused(folder: Path) -> None:
    """transformers would load the one file, vLLM those of the index."""
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    names = dict.fromkeys(tensors, "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": names}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert "two sets of weights" in refusal(lambda: check_files(folder))
    (folder / WEIGHTS).unlink()
    check_files(folder)


@pytest.mark.parametrize(
    ("architecture", "known"),
    [
        ("GPT2LMHeadModel", True),  # of the published gpt2
        ("LlamaForCausalLM", True),
        ("T5ForConditionalGeneration", False),
        ("BertForSequenceClassification", False),
        (None, False),
    ],
)
def test_causal_models_are_those_that_transformers_has(architecture: object, known: bool) -> None:
    assert is_causal_model(architecture) == known
