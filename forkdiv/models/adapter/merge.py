"""Merges an adapter into its base, as PEFT's merge_and_unload does, and writes a whole checkpoint.

Tensors are read and written one at a time without building a model; memory holds one shard.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.models.adapter.config import Adapter
from forkdiv.models.adapter.plan import Change, LowRank, Plan, make
from forkdiv.models.checkpoint import Checkpoint, check_token_ids, last_token_id
from forkdiv.models.digests import check_digests, write_digests
from forkdiv.models.files import read_json
from forkdiv.models.own_tensors import read
from forkdiv.models.written import COPIED, copy_small_files, write_shards

CHECKPOINT = "checkpoint"
OF_MODEL = ("config.json", "generation_config.json")  # taken from the base
LICENCES = tuple(pattern for pattern in COPIED if pattern.startswith("LICENSE"))
OF_TOKENIZER = tuple(p for p in COPIED if p not in (*OF_MODEL, *LICENCES))


def identity(adapter: Adapter, base: Checkpoint) -> Identity:
    """Returns the identity of the merged checkpoint: the content of both folders."""
    config = {"adapter": adapter.config.decides, "tokenizer": _tokenizer_digest(adapter.path)}
    with adapter.weights.open("rb") as handle:
        weights = hashlib.file_digest(handle, "sha256").hexdigest()
    return Identity("adapter", config, {"base": base.fingerprint, "weights": weights})


def obtain(
    store: Store, adapter: Adapter, base: Checkpoint, progress: Callable[[str], None]
) -> Path:
    """Returns the folder of the merged checkpoint; writes it if it does not exist (errors: see
    `write`)."""
    planned(adapter, base.path)

    def build(folder: Path) -> None:
        progress(f"merging the adapter {adapter.path} into {base.path}")
        write(adapter, base.path, folder / CHECKPOINT)

    return store.obtain(identity(adapter, base), build, progress).path / CHECKPOINT


def planned(adapter: Adapter, base: Path) -> Plan:
    """Returns what merging will do, from headers alone. Raises UserError if the adapter does not
    fit the base, or its tokenizer has more tokens than the result has rows."""
    check_digests(base)
    plan = make(adapter, read(base))
    if has_tokenizer(adapter.path):
        if plan.vocabulary is None:
            check_token_ids(base, last_token_id(adapter.path))
        elif (last := last_token_id(adapter.path)) >= plan.vocabulary:
            raise refuse(
                f"the tokenizer of the adapter {adapter.path} has more tokens than its embedding",
                f"token id {last} with an embedding of {plan.vocabulary} rows",
                f"token ids up to {plan.vocabulary - 1}",
                "save the tokenizer with which the adapter was trained into its folder",
            )
    elif plan.vocabulary is not None and plan.vocabulary <= last_token_id(base):
        raise refuse(
            f"the adapter {adapter.path} has fewer rows than the tokenizer of its base has tokens",
            f"{plan.vocabulary} rows with token id {last_token_id(base)}",
            "an embedding with a row for each token",
            "save the tokenizer with which the adapter was trained into its folder",
        )
    return plan


def write(adapter: Adapter, base: Path, out: Path) -> None:
    """Writes the merged checkpoint to the new folder `out`.

    Sums are computed in float32 and stored in the dtype of the base, whose config and shards the
    result has; the tokenizer is the adapter's if its folder has one. Raises UserError for an
    adapter that does not fit the base, and if a result is NaN or infinite.
    """
    plan = planned(adapter, base)
    out.mkdir(parents=True)
    try:
        copy_small_files(base, out, (*OF_MODEL, *LICENCES))
        tokens = adapter.path if has_tokenizer(adapter.path) else base
        copy_small_files(tokens, out, OF_TOKENIZER)
        _write_config(plan, out)
        files = {name: stored.file.name for name, stored in plan.base.stored.items()}
        if plan.head is not None:
            files[plan.head_name] = files[str(plan.base.embedding)]
        write_shards(files, lambda name: merged(plan, name), out)
        write_digests(out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def has_tokenizer(path: Path) -> bool:
    return (path / "tokenizer.json").is_file()


def merged(plan: Plan, name: str) -> torch.Tensor:
    """Returns one tensor of the result, in the dtype of the base."""
    is_new = plan.head is not None and name == plan.head_name
    own = plan.base.load(str(plan.base.embedding) if is_new else name)
    change = plan.head if is_new else plan.changes.get(name)
    if change is None:
        return own.contiguous()
    with safe_open(plan.adapter.weights, framework="pt") as tensors:
        out = _changed(own, change, tensors.get_tensor, own.dtype)
    if not bool(torch.isfinite(out).all()):
        raise refuse(
            f"merging the adapter {plan.adapter.path} gives values that are not finite",
            f"NaN or infinity in {name} ({out.dtype})",
            "finite weights",
            "use an adapter that was saved before the training diverged"
            + ("" if out.dtype == torch.float32 else ", or a base in float32"),
        )
    return out


def _changed(
    weight: torch.Tensor, change: Change, load: Callable[[str], torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    if change.whole:
        weight = load(change.whole).to(dtype)
    if change.rows:
        ids = torch.tensor(change.row_ids)
        weight = weight.index_copy(0, ids, load(change.rows).to(dtype))
    if change.added:
        weight = (weight.float() + load(change.added).float() * change.factor).to(dtype)
    if change.low_rank:
        weight = _with_low_rank(weight.float(), change.low_rank, load).to(dtype)
    return weight.contiguous()


def _with_low_rank(
    weight: torch.Tensor, low_rank: LowRank, load: Callable[[str], torch.Tensor]
) -> torch.Tensor:
    product = load(low_rank.b).float() @ load(low_rank.a).float()
    delta = (product.T if low_rank.transposed else product) * low_rank.scaling
    if not low_rank.magnitude:
        return weight + delta
    # DoRA: each output of the layer (for an embedding each of its numbers) gets the trained norm
    summed = weight + delta
    by_output = summed.T if low_rank.transposed else summed
    norms: torch.Tensor = torch.linalg.norm(by_output, dim=1)
    scale = load(low_rank.magnitude).float().flatten() / norms
    return summed * (scale.view(1, -1) if low_rank.transposed else scale.view(-1, 1))


def _write_config(plan: Plan, out: Path) -> None:
    """Changes the copied config.json where the result has another vocabulary or its own head."""
    if plan.vocabulary is None and plan.head is None:
        return
    config = read_json(out / "config.json")
    text = config.get("text_config")
    parts = [config, *([text] if isinstance(text, dict) else [])]
    for part in parts:
        if plan.vocabulary is not None and "vocab_size" in part:
            part["vocab_size"] = plan.vocabulary
        if plan.head is not None:
            part["tie_word_embeddings"] = False
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _tokenizer_digest(path: Path) -> str | None:
    """Returns the digest of the adapter's tokenizer files; None if it uses those of the base."""
    if not has_tokenizer(path):
        return None
    digest = hashlib.sha256()
    for pattern in OF_TOKENIZER:
        for file in sorted(path.glob(pattern)):
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)} ".encode() + content)
    return digest.hexdigest()
