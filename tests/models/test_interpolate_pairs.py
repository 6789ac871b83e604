"""Pairs of checkpoints as users have them: which are averaged, to which numbers, and which are
refused with what reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken

from forkdiv.core.errors import UserError
from forkdiv.models import interpolate
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.digests import DIGESTS, write_digests
from forkdiv.models.loading import load_model, new_model, word_tokenizer
from forkdiv.models.pair import check_pair
from tests.checkpoints_tokens import edit

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
Change = Callable[[Path], None]
State = dict[str, torch.Tensor]


def save(folder: Path, seed: int) -> Path:
    tokenizer = word_tokenizer(["a", "b", "c"], "<eos>")
    new_model("micro-llama", tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pairs")
    return save(root / "early", 0), save(root / "late", 1)


@pytest.fixture
def pair(saved: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    early, late = (Path(shutil.copytree(path, tmp_path / path.name)) for path in saved)
    return early, late


def store(folder: Path, state: State) -> None:
    save_file(state, folder / WHOLE, metadata={"format": "pt"})


def state_of(folder: Path) -> State:
    state: State = load_file(folder / WHOLE)
    return state


def shards(folder: Path, stale: bool = False) -> None:
    """Stores the weights in two files with an index. `stale`: the second file also has a tensor of
    the first, with other values."""
    state = state_of(folder)
    names = sorted(state)
    parts = {"model-1.safetensors": names[:9], "model-2.safetensors": names[9:]}
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    for file, part in parts.items():
        content = {name: state[name] for name in part}
        if stale and names[0] not in content:
            content[names[0]] = state[names[0]] + 7
        save_file(content, folder / file, metadata={"format": "pt"})
    (folder / WHOLE).unlink()
    (folder / INDEX).write_text(json.dumps(index))


# --- accepted: a change of one folder that leaves its model as it is ------------------------------


def two_shards(folder: Path) -> None:
    shards(folder)


def stale_copy_in_another_shard(folder: Path) -> None:
    shards(folder, stale=True)


def old_whole_file_beside_shards(folder: Path) -> None:
    old = {name: tensor + 7 for name, tensor in state_of(folder).items()}
    shards(folder)
    store(folder, old)


def repeated_head(folder: Path) -> None:
    state = state_of(folder)
    store(folder, state | {HEAD: state[EMBEDDING].clone()})


def only_a_head(folder: Path) -> None:
    state = state_of(folder)
    state[HEAD] = state.pop(EMBEDDING)
    store(folder, state)


def repeated_head_without_ties(folder: Path) -> None:
    repeated_head(folder)
    edit(folder / "config.json", tie_word_embeddings=False)


def body_alone(folder: Path) -> None:
    """Names without the prefix of the body, as in the published gpt2."""
    store(folder, {name.removeprefix("model."): t for name, t in state_of(folder).items()})


def consolidated(folder: Path) -> None:
    save_file({"norm.weight": torch.ones(64)}, folder / "consolidated.safetensors")
    save_file({NORM: torch.ones(64)}, folder / "consolidated.00.safetensors")


def damaged_stray_file(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"\xff" * 64)


def adapter_beside(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="org/base", peft_type="LORA")
    save_file(
        {"base_model.q.lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors"
    )


def training_state(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"0" * 100)
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / WHOLE).write_bytes(b"0" * 100)


def other_special_ids(folder: Path) -> None:
    edit(folder / "config.json", eos_token_id=[1, 4], pad_token_id=5, bos_token_id=3)
    edit(folder / "generation_config.json", eos_token_id=[1, 4], pad_token_id=5, temperature=0.6)


def no_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def notes_in_config(folder: Path) -> None:
    content = {"_name_or_path": "org/base", "use_cache": False, "unsloth_version": "2025.1"}
    edit(folder / "config.json", **content, attention_dropout=0.1, trained_by="somebody")


def old_release(folder: Path) -> None:
    """config.json as transformers 4 wrote it."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config))


def older_name_of_rope_type(folder: Path) -> None:
    """On a model without scaling: what transformers 4.40 wrote for it."""
    config = json.loads((folder / "config.json").read_text())
    rope = config["rope_parameters"] | {"type": "default", "attention_factor": None}
    edit(folder / "config.json", rope_parameters=rope)


def rounded_to_float32(folder: Path) -> None:
    edit(folder / "config.json", rms_norm_eps=9.999999974752427e-07)  # 1e-6, read from GGUF


def longer_context(folder: Path) -> None:
    edit(folder / "config.json", max_position_embeddings=1024)


def buffers(folder: Path) -> None:
    frequencies = {
        f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(16) for i in (0, 1)
    }
    store(folder, state_of(folder) | frequencies)


def renamed_reserved_token(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text().replace("<pad>", "<|im_start|>")
    (folder / "tokenizer.json").write_text(text)


def own_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")


def cache_links(folder: Path) -> None:
    """The layout of the cache of huggingface_hub."""
    blobs = folder.parent / f"models--org--{folder.name}" / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / f"{number:040d}")
        file.symlink_to(blobs / f"{number:040d}")


def digests_of_its_own(folder: Path) -> None:
    write_digests(folder)
    adapter_beside(folder)


ACCEPTED: tuple[Change, ...] = (
    *(two_shards, stale_copy_in_another_shard, old_whole_file_beside_shards),
    *(repeated_head, only_a_head, body_alone, consolidated, damaged_stray_file),
    *(adapter_beside, training_state, other_special_ids, no_generation_config, notes_in_config),
    *(
        old_release,
        older_name_of_rope_type,
        rounded_to_float32,
        longer_context,
        buffers,
        renamed_reserved_token,
    ),
    *(own_template, cache_links, digests_of_its_own, repeated_head_without_ties),
)


@pytest.mark.parametrize("change", ACCEPTED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("side", [0, 1], ids=["early", "late"])
def test_a_folder_written_otherwise_gives_the_same_average(
    pair: tuple[Path, Path], tmp_path: Path, change: Change, side: int
) -> None:
    a, b = (state_of(folder) for folder in pair)
    wanted = {name: 0.5 * a[name] + 0.5 * b[name] for name in a}
    change(pair[side])
    early, late = (open_checkpoint(path, stray_adapter=True).path for path in pair)
    out = tmp_path / "out"
    interpolate.write(early, late, 0.5, out)
    open_checkpoint(out)
    model = load_model(out)  # refuses missing and unexpected tensors
    actual = model.state_dict()
    assert all(torch.equal(actual[name], tensor) for name, tensor in wanted.items())
    assert torch.equal(actual[HEAD], wanted[EMBEDDING])
    for name in ("config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (late / name).read_bytes()
    assert (out / "chat_template.jinja").exists() == (late / "chat_template.jinja").exists()
    strays = ("adapter_config.json", "optimizer.pt", "checkpoint-5", "consolidated.safetensors")
    assert not any((out / name).exists() or (out / name).is_symlink() for name in strays)
    assert not any(file.is_symlink() for file in out.iterdir())


# --- refused, with the reason ---------------------------------------------------------------------


def changed_after_writing(folder: Path) -> None:
    write_digests(folder)
    store(folder, {name: tensor * 2 for name, tensor in state_of(folder).items()})


def added_after_writing(folder: Path) -> None:
    write_digests(folder)
    shards(folder)
    save_file({"x": torch.ones(1)}, folder / WHOLE)
    write_digests(folder)
    recorded = json.loads((folder / DIGESTS).read_text())
    del recorded["model-2.safetensors"]
    (folder / DIGESTS).write_text(json.dumps(recorded))


def damaged_digests(folder: Path) -> None:
    (folder / DIGESTS).write_text("[")


def digests_outside(folder: Path) -> None:
    (folder / DIGESTS).write_text(json.dumps({f"../early/{WHOLE}": "0" * 64}))


def pointed(folder: Path, file: str) -> None:
    names = dict.fromkeys(state_of(folder), file)
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def index_to_a_sibling(folder: Path) -> None:
    pointed(folder, f"../{folder.name}/{WHOLE}")


def index_to_an_absolute_path(folder: Path) -> None:
    pointed(folder, str(folder.resolve() / WHOLE))


def index_to_a_parent(folder: Path) -> None:
    pointed(folder, "..")


def index_to_another_kind_of_file(folder: Path) -> None:
    pointed(folder, "config.json")


def empty_index(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": {}}')


def link_that_leaves(folder: Path) -> None:
    shards(folder)
    shutil.move(folder / "model-2.safetensors", folder.parent / "other.safetensors")
    (folder / "model-2.safetensors").symlink_to("../other.safetensors")


def pipe_beside(folder: Path) -> None:
    os.mkfifo(folder / "consolidated.safetensors")


def copies_without_an_index(folder: Path) -> None:
    state = state_of(folder)
    (folder / WHOLE).unlink()
    save_file(state, folder / "model-a.safetensors")
    save_file({NORM: state[NORM] + 1}, folder / "model-b.safetensors")


def own_head_though_tied(folder: Path) -> None:
    state = state_of(folder)
    head = state[EMBEDDING].clone()
    head[3, 5] += 1
    store(folder, state | {HEAD: head})


def padded(folder: Path) -> None:
    resized(folder, 8)


def resized(folder: Path, rows: int) -> None:
    state = state_of(folder)
    extra = torch.zeros(rows - 6, 64)
    store(folder, state | {EMBEDDING: torch.cat([state[EMBEDDING], extra])})
    edit(folder / "config.json", vocab_size=rows)


def extended(folder: Path) -> None:
    resized(folder, 8)
    tokenizer = word_tokenizer(["a", "b", "c"], "<eos>")
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True), "<tool>"])
    tokenizer.save_pretrained(folder)


def swapped_tokens(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary: dict[str, Any] = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def other_rope(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", rope_parameters=config["rope_parameters"] | {"rope_theta": 1e6})


def other_kind_of_mlp(folder: Path) -> None:
    edit(folder / "config.json", hidden_act="gelu", rms_norm_eps=0.1)


REFUSED: dict[Change, tuple[str, ...]] = {
    changed_after_writing: ("have changed since they were written", "SHA-256"),
    added_after_writing: ("have changed since they were written", "does not name"),
    damaged_digests: ("no readable digests.json",),
    digests_outside: ("digests.json is damaged", "names of files in the same folder"),
    index_to_a_sibling: ("not a file of the folder",),
    index_to_an_absolute_path: ("not a file of the folder",),
    index_to_a_parent: ("not a file of the folder",),
    index_to_another_kind_of_file: ("config.json, which is not a safetensors file",),
    empty_index: ("an empty weight_map",),
    link_that_leaves: ("is a link that leaves the folder", "copy the file into the folder"),
    pipe_beside: ("is not a regular file",),
    copies_without_an_index: (NORM, "different values in several files", "model-b.safetensors"),
    own_head_though_tied: ("ties it", "1 of 384 values differ", "set tie_word_embeddings to false"),
    padded: (
        "embeddings of",
        "rows",
        "use 6 and 6",
        "no token has the rows from 6 on",
        "resize_token_embeddings(6)",
    ),
    extended: ("embeddings of", "rows", "resize_token_embeddings(8)", "untrained"),
    swapped_tokens: ("different tokenizers", "'a' has the ids", "2 differences"),
    other_rope: ("different architectures", "rope_parameters", "1000000.0"),
    other_kind_of_mlp: ("different architectures", "hidden_act", "'gelu'", "rms_norm_eps"),
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("side", [0, 1], ids=["early", "late"])
def test_a_pair_without_a_right_average_is_refused_before_work(
    pair: tuple[Path, Path], change: Change, side: int
) -> None:
    change(pair[side])
    with pytest.raises(UserError) as caught:
        check_pair(*(open_checkpoint(path, stray_adapter=True).path for path in pair))
    message = str(caught.value)
    assert all(part in message for part in REFUSED[change]), message
    assert "; allowed: " in message and "\n" not in message and len(message) < 900


# --- untied output embeddings ---------------------------------------------------------------------


def test_the_tied_embedding_of_the_base_is_averaged_with_the_own_head_of_the_tuned(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = (state_of(folder) for folder in pair)
    own_head_though_tied(pair[1])
    edit(pair[1] / "config.json", tie_word_embeddings=False)
    head = state_of(pair[1])[HEAD]
    interpolate.write(*pair, 0.5, tmp_path / "out")
    actual = load_model(tmp_path / "out").state_dict()
    assert torch.equal(actual[HEAD], 0.5 * a[EMBEDDING] + 0.5 * head)
    assert torch.equal(actual[EMBEDDING], 0.5 * a[EMBEDDING] + 0.5 * b[EMBEDDING])


def test_an_own_head_of_the_base_is_not_dropped_for_a_tied_tuned_model(
    pair: tuple[Path, Path],
) -> None:
    own_head_though_tied(pair[0])
    edit(pair[0] / "config.json", tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"is a tensor of its own, and .*late has none"):
        check_pair(*pair)


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("late", [torch.float32, torch.float16, torch.bfloat16])
def test_sums_are_float32_and_stored_as_the_tuned_checkpoint_is(
    pair: tuple[Path, Path], tmp_path: Path, early: torch.dtype, late: torch.dtype
) -> None:
    for folder, dtype in zip(pair, (early, late), strict=True):
        store(folder, {name: tensor.to(dtype) for name, tensor in state_of(folder).items()})
    a, b = (state_of(folder) for folder in pair)
    notes = check_pair(*pair).notes
    assert len(notes) == (early != late) and all("the result is" in note for note in notes)
    for alpha in (0.0, 0.3, 1.0):
        interpolate.write(*pair, alpha, tmp_path / f"out{alpha}")
        actual = state_of(tmp_path / f"out{alpha}")
        for name in b:
            ends = {0.0: a[name].to(late), 1.0: b[name]}
            summed = ((1 - alpha) * a[name].float() + alpha * b[name].float()).to(late)
            wanted = ends.get(alpha, summed)
            assert actual[name].dtype == late
            bits = [tensor.view(torch.uint8) for tensor in (actual[name], wanted)]
            assert torch.equal(*bits)


def test_a_value_too_large_for_the_dtype_of_the_tuned_checkpoint_is_refused(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    state = state_of(pair[0])
    store(pair[0], state | {NORM: state[NORM] * 1e6})
    store(pair[1], {name: tensor.half() for name, tensor in state_of(pair[1]).items()})
    with pytest.raises(UserError, match=r"does not fit .*500000.*float16.*65504.*bfloat16"):
        interpolate.write(*pair, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- notes and identity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (stale_copy_in_another_shard, ("different values in", "names model-1.safetensors")),
        (old_whole_file_beside_shards, ("beside the files of", "the index decides")),
        (repeated_head, ("lm_head.weight", "is left out")),
        (renamed_reserved_token, ("2 tokens are in one tokenizer only",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_was_chosen_is_noted(
    pair: tuple[Path, Path], change: Change, parts: tuple[str, ...]
) -> None:
    assert not check_pair(*pair).notes
    change(pair[1])
    (note,) = check_pair(*pair).notes
    assert all(part in note for part in parts)


def test_the_command_prints_what_it_chose_and_nothing_of_settings_that_it_does_not_read(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    store(pair[0], {name: tensor.bfloat16() for name, tensor in state_of(pair[0]).items()})
    edit(pair[0] / "config.json", dtype="bfloat16")
    repeated_head(pair[1])
    command = [sys.executable, "-m", "jobs.interpolate", f"place.root={tmp_path / 'runs'}"]
    options = ["--base", str(pair[0]), "--tuned", str(pair[1]), "0.5"]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "lm_head.weight" in ended.stdout and "the result is F32" in ended.stdout
    assert "decoder.dtype" not in ended.stdout + ended.stderr
    folder = Path(ended.stdout.splitlines()[-1].removeprefix("alpha 0.5: "))
    assert {tensor.dtype for tensor in state_of(folder).values()} == {torch.float32}


def test_only_results_that_may_have_been_averaged_wrongly_get_another_fingerprint(
    pair: tuple[Path, Path],
) -> None:
    early, late = (Checkpoint(path, path.name) for path in pair)
    before = interpolate.identity(early, late, 0.5)
    assert before.config == {"alpha": 0.5}
    two_shards(pair[0])
    assert interpolate.identity(early, late, 0.5) == before
    content = load_file(pair[0] / "model-2.safetensors")
    save_file(content | {EMBEDDING: torch.zeros(6, 64)}, pair[0] / "model-2.safetensors")
    assert interpolate.identity(early, late, 0.5) != before
