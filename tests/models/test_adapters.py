"""An adapter merged into its base is the model that PEFT computes with the two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from forkdiv.core.errors import UserError
from forkdiv.core.store import Store
from forkdiv.models.adapter import base as adapter_base
from forkdiv.models.adapter import beside, merge
from forkdiv.models.adapter.config import read
from forkdiv.models.checkpoint import check_files, open_checkpoint
from forkdiv.models.digests import check_digests
from forkdiv.models.loading import load_model, load_tokenizer
from tests.adapters import saved_adapter, unmerged
from tests.checkpoints_tokens import edit
from tests.stack import BASE

IDS = torch.tensor([[3, 5, 7, 9, 4, 6]])
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# kinds of LoRA by name. The base ties its embeddings.
KINDS: dict[str, dict[str, Any]] = {
    "two layers": {},
    "all linear layers": {"target_modules": "all-linear", "lora_alpha": 7},
    "a regular expression": {"target_modules": r".*layers\.[01]\.self_attn\.(q|k)_proj"},
    "scaled by the root of the rank": {"use_rslora": True, "r": 6},
    "patterns of ranks and alphas": {
        "target_modules": ["q_proj", "down_proj"],
        "rank_pattern": {"down_proj": 3, r"layers\.0\.self_attn\.q_proj": 5},
        "alpha_pattern": {"q_proj": 31},
    },
    "dora": {"use_dora": True, "target_modules": ["q_proj", "down_proj"]},
    "some layers": {"layers_to_transform": [1]},
    "a norm saved whole": {"modules_to_save": ["norm"]},
    "rows of single tokens": {"trainable_token_indices": [3, 5]},
}
UNTIED: dict[str, dict[str, Any]] = {
    "the embedding saved whole": {"modules_to_save": ["embed_tokens"]},
    "the output layer saved whole": {"modules_to_save": ["lm_head"]},
    "the embedding adapted": {"target_modules": ["q_proj", "embed_tokens"]},
    "the embedding adapted with dora": {
        "target_modules": ["q_proj", "embed_tokens"],
        "use_dora": True,
    },
    "the output layer adapted": {"target_modules": ["q_proj", "lm_head"]},
}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = model(IDS).logits.float()
    return out


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 900
    return message


def merged(adapter: Path, out: Path, base: Path = BASE) -> Path:
    merge.write(read(adapter), base, out)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_weights_have_the_bits_of_pefts_own_merge(kind: str, tmp_path: Path) -> None:
    adapter = saved_adapter(tmp_path / "adapter", **KINDS[kind])
    model = load_model(merged(adapter, tmp_path / "merged"))
    beside_it = unmerged(adapter)
    assert torch.allclose(logits(model), logits(beside_it), atol=1e-4)
    assert not torch.allclose(logits(model), logits(load_model(BASE)), atol=1e-2)
    expected = beside_it.merge_and_unload().state_dict()
    actual = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in actual.items())
    assert model.config.tie_word_embeddings


@pytest.mark.parametrize("kind", UNTIED)
def test_a_change_of_one_of_two_tied_embeddings_leaves_the_other_as_it_was(
    kind: str, tmp_path: Path
) -> None:
    """PEFT trains them apart; its own merge changes both, and so computes another model."""
    adapter = saved_adapter(tmp_path / "adapter", **UNTIED[kind])
    model = load_model(merged(adapter, tmp_path / "merged"))
    assert torch.allclose(logits(model), logits(unmerged(adapter)), atol=1e-4)
    assert not model.config.tie_word_embeddings
    own, state = load_file(BASE / "model.safetensors")[EMBEDDING], model.state_dict()
    assert [torch.equal(own, state[name]) for name in (EMBEDDING, HEAD)].count(True) == 1


def test_tied_embeddings_that_peft_trained_as_one_stay_one(tmp_path: Path) -> None:
    adapter = saved_adapter(
        tmp_path / "adapter", modules_to_save=["embed_tokens"], ensure_weight_tying=True
    )
    model = load_model(merged(adapter, tmp_path / "merged"))
    assert model.config.tie_word_embeddings
    assert torch.allclose(logits(model), logits(unmerged(adapter)), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_rounded_once_to_the_dtype_of_the_base(dtype: torch.dtype, tmp_path: Path) -> None:
    base = of_dtype(tmp_path / "base", dtype)
    adapter = saved_adapter(tmp_path / "adapter", base, target_modules="all-linear")
    actual = load_file(merged(adapter, tmp_path / "merged", base) / "model.safetensors")
    expected = unmerged(adapter, base).merge_and_unload().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in actual.items())
    assert {tensor.dtype for tensor in actual.values()} == {dtype}


def of_dtype(folder: Path, dtype: torch.dtype) -> Path:
    shutil.copytree(BASE, folder)
    state = {k: v.to(dtype) for k, v in load_file(BASE / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", dtype=str(dtype).removeprefix("torch."))
    return folder


def test_a_base_in_shards_gives_the_same_weights_in_the_same_shards(tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(BASE).save_pretrained(sharded, max_shard_size="500KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(BASE / name, sharded / name)
    adapter = saved_adapter(tmp_path / "adapter")
    out = merged(adapter, tmp_path / "merged", sharded)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    before = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert (
        index["weight_map"] == before["weight_map"] and len(set(index["weight_map"].values())) > 1
    )
    whole = load_model(merged(adapter, tmp_path / "whole")).state_dict()
    assert all(torch.equal(t, whole[name]) for name, t in load_model(out).state_dict().items())


def test_layers_that_store_their_weights_transposed_are_merged_too(tmp_path: Path) -> None:
    base = tmp_path / "base"
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=25, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(BASE / name, base / name)
    targets = ["c_attn", "c_proj"]  # of Conv1D; c_proj is square in one of its two places
    adapter = saved_adapter(tmp_path / "a", base, target_modules=targets, fan_in_fan_out=True)
    model = load_model(merged(adapter, tmp_path / "merged", base))
    assert torch.allclose(logits(model), logits(unmerged(adapter, base)), atol=1e-4)


def test_a_resized_vocabulary_comes_with_its_rows_and_its_tokenizer(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(BASE)
    tokenizer.add_tokens(["<think>", "</think>"])
    model = AutoModelForCausalLM.from_pretrained(BASE)
    model.resize_token_embeddings(len(tokenizer))
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
    )
    adapter = tmp_path / "adapter"
    adapted.save_pretrained(adapter, save_embedding_layers=True)
    tokenizer.save_pretrained(adapter)
    out = merged(adapter, tmp_path / "merged")
    check_files(out)
    result = load_model(out)
    assert result.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert result.config.vocab_size == len(tokenizer) and result.config.tie_word_embeddings
    assert len(load_tokenizer(out)) == len(tokenizer)
    assert torch.allclose(logits(result), logits(model), atol=1e-4)
    # without the rows, the tokens of the tokenizer have no embedding
    adapted.save_pretrained(adapter, save_embedding_layers=False)
    message = refusal(lambda: merged(adapter, tmp_path / "again"))
    assert "more tokens than the model" in message and not (tmp_path / "again").exists()


def test_the_result_is_a_checkpoint_with_the_adapters_tokenizer_and_digests(tmp_path: Path) -> None:
    adapter = saved_adapter(tmp_path / "adapter")
    (adapter / "optimizer.pt").write_bytes(b"0")
    out = merged(adapter, tmp_path / "plain")
    assert (out / "tokenizer.json").read_bytes() == (BASE / "tokenizer.json").read_bytes()
    shutil.copyfile(BASE / "tokenizer.json", adapter / "tokenizer.json")
    edit(adapter / "tokenizer.json", normalizer={"type": "Lowercase"})
    out = merged(adapter, tmp_path / "merged")
    open_checkpoint(out)
    check_digests(out)
    assert (out / "tokenizer.json").read_bytes() == (adapter / "tokenizer.json").read_bytes()
    names = {file.name for file in out.iterdir()}
    assert "digests.json" in names and not names & {"adapter_config.json", "optimizer.pt"}


def test_an_adapter_is_merged_once_and_again_if_it_or_its_base_changes(tmp_path: Path) -> None:
    store, base = Store(tmp_path / "store"), open_checkpoint(BASE)
    adapter = saved_adapter(tmp_path / "adapter")
    lines: list[str] = []
    first = merge.obtain(store, read(adapter), base, lines.append)
    assert merge.obtain(store, read(adapter), base, lines.append) == first
    assert len(lines) == 1
    edit(adapter / "adapter_config.json", lora_alpha=99)
    assert merge.obtain(store, read(adapter), base, lines.append) != first
    saved_adapter(adapter, seed=1)
    assert merge.obtain(store, read(adapter), base, lines.append) != first
    assert len(lines) == 3


def kind(folder: Path, **fields: Any) -> None:
    edit(folder / "adapter_config.json", **fields)


def without(folder: Path, *endings: str) -> None:
    file = folder / "adapter_model.safetensors"
    state = {k: v for k, v in load_file(file).items() if not k.endswith(endings)}
    save_file(state, file)


def only_a_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def truncated(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def not_gathered(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({name: torch.zeros(0) for name in load_file(file)}, file)


def not_finite(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "IA3": (lambda f: kind(f, peft_type="IA3"), "peft_type='IA3'"),
    "prompt tuning": (lambda f: kind(f, peft_type="PROMPT_TUNING"), "cannot merge into its base"),
    "AdaLoRA": (lambda f: kind(f, peft_type="ADALORA"), "merge_and_unload()"),
    "no kind": (lambda f: kind(f, peft_type=None), "cannot merge into its base"),
    "PiSSA": (lambda f: kind(f, init_lora_weights="pissa"), "path_initial_model_for_weight"),
    "activated LoRA": (
        lambda f: kind(f, alora_invocation_tokens=[1]),
        "alora_invocation_tokens=[1]",
    ),
    "experts": (lambda f: kind(f, target_parameters=["experts.w"]), "target_parameters"),
    "a later kind": (lambda f: kind(f, use_next_lora=True), "use_next_lora=True"),
    "no rank": (lambda f: kind(f, r=0), "r: Input should be greater than or equal to 1"),
    "another rank": (lambda f: kind(f, r=5), "of rank 4, where adapter_config.json says 5"),
    "a pattern": (lambda f: kind(f, rank_pattern={"(": 4}), "has a pattern that cannot be read"),
    "a pickle": (only_a_pickle, "only adapter_model.bin, a pickle"),
    "truncated": (truncated, "adapter_model.safetensors cannot be read"),
    "not gathered": (not_gathered, "gather the parameters before saving"),
    "NaN": (not_finite, "values that are not finite"),
    "no lora_B": (
        lambda f: without(f, "layers.1.self_attn.q_proj.lora_B.weight"),
        "model.layers.1.self_attn.q_proj without lora_B",
    ),
    "a missing layer": (
        lambda f: without(f, *(f"layers.1.self_attn.q_proj.lora_{x}.weight" for x in "AB")),
        "no lora_A of model.layers.1.self_attn.q_proj, which target_modules names",
    ),
    "a missing module": (lambda f: kind(f, modules_to_save=["norm"]), "no norm, which"),
    "no magnitudes": (lambda f: kind(f, use_dora=True), "without lora_magnitude_vector"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_merged_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    folder = saved_adapter(tmp_path / "adapter")
    damage, part = REFUSED[name]
    damage(folder)
    message = refusal(lambda: merged(folder, tmp_path / "merged"))
    assert part in message and not (tmp_path / "merged").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(BASE, base)
    state = load_file(base / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file(state | {name: state[name][:, :-1].contiguous()}, base / "model.safetensors")
    message = refusal(lambda: merged(saved_adapter(tmp_path / "a"), tmp_path / "out", base))
    assert "does not fit the base" in message and "of shape [128, 128]" in message
    assert "set adapter_base=DIR" in message


def test_the_base_is_the_folder_that_the_config_names_or_the_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved_adapter(tmp_path / "run" / "adapter")

    def found(name: str | None, **given: Any) -> Path:
        edit(folder / "adapter_config.json", base_model_name_or_path=name)
        return adapter_base.find(read(folder), **given).resolve()

    assert found(str(BASE)) == BASE
    assert found("graph-d3-l3") == BASE  # a shipped base
    (tmp_path / "base").symlink_to(BASE)
    assert found("../../base") == BASE  # from the adapter's folder
    monkeypatch.chdir(tmp_path)
    assert found("base") == BASE  # from the current folder
    other = tmp_path / "other"
    assert found("base", given=other) == other
    assert found("base", otherwise=other) == BASE
    assert found("org/model", otherwise=other) == other
    message = refusal(lambda: found("model-bnb-4bit"))
    assert "is not on this machine" in message and "set adapter_base=DIR" in message
    assert "not quantised" in message
    assert "base_model_name_or_path=none" in refusal(lambda: found(None))
    assert "not on this machine" in refusal(lambda: found("a" * 5000))


def test_weights_beside_an_adapter_must_be_those_of_its_base_with_or_without_it(
    tmp_path: Path,
) -> None:
    def both(weights: Path) -> Path:
        folder = tmp_path / "both"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(weights, folder)
        return saved_adapter(folder)

    plain = saved_adapter(tmp_path / "adapter")
    beside.check_same_model(read(both(BASE)), BASE)
    by_peft = tmp_path / "by-peft"
    unmerged(plain).merge_and_unload().save_pretrained(by_peft)
    beside.check_same_model(read(both(by_peft)), BASE)
    other = merged(saved_adapter(tmp_path / "another", seed=2), tmp_path / "other")
    message = refusal(lambda: beside.check_same_model(read(both(other)), BASE))
    assert "neither those of the adapter's base nor those with the adapter merged in" in message
