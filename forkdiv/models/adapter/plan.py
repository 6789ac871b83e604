"""Which tensors of the base an adapter changes, and how; read from headers alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import safe_open

from forkdiv.core.errors import UserError, refuse, shortened
from forkdiv.models.adapter.config import ADAPTER, Adapter, AdapterConfig
from forkdiv.models.own_tensors import HEADS, OwnTensors, same_values
from forkdiv.models.pair import counterpart
from forkdiv.models.weights import EMBEDDINGS

# the endings of an adapter's tensors, and the field of LowRank that each fills
LOW_RANK = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}
BIAS, ROWS = ".lora_B.bias", ".token_adapter.trainable_tokens_delta"
# parts of names with which PEFT wraps a module that it saves whole
WRAPPERS = re.compile(r"\.(base_layer|modules_to_save|original_module)(?=\.)")


@dataclass(frozen=True)
class LowRank:
    """W + scaling · B·A: the keys of A and B in the file, and with DoRA that of the magnitudes.
    `transposed`: the weight is stored with the shape (inputs, outputs)."""

    a: str = ""
    b: str = ""
    magnitude: str = ""
    scaling: float = 1.0
    transposed: bool = False
    is_embedding: bool = False


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor, in this order: replaces it, replaces rows of it, adds a
    vector times a factor to it, adds a low-rank product. Tensors are named by their keys."""

    whole: str = ""
    rows: str = ""
    row_ids: tuple[int, ...] = ()
    added: str = ""
    factor: float = 1.0
    low_rank: LowRank | None = None


@dataclass
class Plan:
    """The changes by tensor of the base. `vocabulary`: the rows of the embedding in the result, if
    the adapter resizes it.

    `head`, under `head_name`, is set if input and output embedding are tied in the base and differ
    in the result: PEFT trains a change of one of them, and leaves the other as it was.
    """

    adapter: Adapter
    base: OwnTensors
    changes: dict[str, Change] = field(default_factory=dict)
    head: Change | None = None
    head_name: str = HEADS[0]
    vocabulary: int | None = None


def make(adapter: Adapter, base: OwnTensors) -> Plan:
    """Returns the plan. Raises UserError if tensors of the adapter are missing, or do not fit the
    base in name or shape."""
    plan = Plan(adapter, base)
    problems: list[str] = []
    low_rank: dict[str, LowRank] = {}
    for name in sorted(adapter.parts):
        module, part = _low_rank_part(name)
        if part:
            known = low_rank.get(module, LowRank())
            is_embedding = known.is_embedding or ".lora_embedding_" in name
            key = {part: adapter.parts[name].key}
            low_rank[module] = replace(known, **key, is_embedding=is_embedding)  # type: ignore[arg-type]
        else:
            _add_other(plan, name, problems)
    for module, keys in low_rank.items():
        _add_low_rank(plan, module, keys, problems)
    problems += _missing(plan, set(low_rank))
    if problems:
        raise _does_not_fit(adapter, base.path, problems)
    if base.tied:
        plan.head = _untied_head(plan)
    return plan


def _untied_head(plan: Plan) -> Change | None:
    """Returns the change from the base's tied embedding to the result's output embedding; None if
    both stay one tensor."""
    config, head = plan.adapter.config, plan.head
    embedding = plan.changes.get(plan.base.embedding or "", Change())
    saved = config.modules_to_save or []
    is_saved = any(f".{plan.base.embedding}".endswith(f".{name}.weight") for name in saved)
    if config.ensure_weight_tying or (
        head is not None and _same_whole(plan.adapter, head, embedding)
    ):
        return None
    # a whole embedding that is not in modules_to_save is the base's own, resized: both have it
    resized = "" if is_saved else embedding.whole
    if head is not None:
        return replace(head, whole=head.whole or resized)
    # rows that are trained alone are trained in both
    differs = embedding.low_rank is not None or (is_saved and bool(embedding.whole))
    return Change(whole=resized) if differs else None


def _same_whole(adapter: Adapter, head: Change, embedding: Change) -> bool:
    """Whether both are replaced by tensors of the same values, and nothing else changes them."""
    if not (head.whole and embedding.whole) or head.low_rank or embedding.low_rank:
        return False
    with safe_open(adapter.weights, framework="pt") as tensors:
        first, second = (tensors.get_tensor(change.whole) for change in (head, embedding))
    return same_values(first, second)


def _low_rank_part(name: str) -> tuple[str, str]:
    for ending, part in LOW_RANK.items():
        if name.endswith(ending):
            return name.removesuffix(ending), part
    return name, ""


def _add_low_rank(plan: Plan, module: str, keys: LowRank, problems: list[str]) -> None:
    config, by_key = plan.adapter.config, _shapes_by_key(plan.adapter)
    missing = [part for part in ("a", "b") if not getattr(keys, part)]
    missing += ["magnitude"] if config.use_dora and not keys.magnitude else []
    if missing:
        names = {"a": "lora_A", "b": "lora_B", "magnitude": "lora_magnitude_vector"}
        problems.append(f"{module} without {names[missing[0]]}")
        return
    a, b = by_key[keys.a], by_key[keys.b]
    rank = _of_pattern(config.rank_pattern, module, config.r)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        problems.append(f"{module} with matrices of shape {list(a)} and {list(b)}")
        return
    if a[0] != rank:
        problems.append(f"{module} of rank {a[0]}, where {ADAPTER} says {rank}")
    alpha = _of_pattern(config.alpha_pattern, module, config.lora_alpha)
    change = replace(
        keys,
        scaling=alpha / (math.sqrt(a[0]) if config.use_rslora else a[0]),
        transposed=keys.is_embedding or config.fan_in_fan_out,
    )
    shape = (a[1], b[0]) if change.transposed else (b[0], a[1])
    _add(plan, f"{module}.weight", Change(low_rank=change), shape, problems)


def _add_other(plan: Plan, name: str, problems: list[str]) -> None:
    part = plan.adapter.parts[name]
    if name.endswith(BIAS):
        module = name.removesuffix(BIAS)
        config = plan.adapter.config
        rank = _of_pattern(config.rank_pattern, module, config.r)
        alpha = _of_pattern(config.alpha_pattern, module, config.lora_alpha)
        factor = alpha / (math.sqrt(rank) if config.use_rslora else rank)
        _add(plan, f"{module}.bias", Change(added=part.key, factor=factor), part.shape, problems)
    elif name.endswith(ROWS):
        module = name.removesuffix(ROWS)
        rows = _trained_rows(plan.adapter.config, module)
        change = Change(rows=part.key, row_ids=rows)
        target = _target(plan, f"{module}.weight")
        width = plan.base.stored[target].shape[1] if target else 0
        if part.shape != (len(rows), width):
            problems.append(f"{name} of shape {list(part.shape)} for {len(rows)} tokens")
            return
        if any(not 0 <= row < plan.base.stored[str(target)].shape[0] for row in rows):
            problems.append(f"{name} for the token {max(rows)}, which the base does not have")
            return
        _add(plan, f"{module}.weight", change, None, problems)
    else:
        plain = WRAPPERS.sub("", name)
        is_embedding = plain.endswith((*EMBEDDINGS, *HEADS))
        _add(plan, plain, Change(whole=part.key), None if is_embedding else part.shape, problems)
        if is_embedding:
            _resize(plan, plain, part.shape, problems)


def _add(
    plan: Plan, name: str, change: Change, shape: tuple[int, ...] | None, problems: list[str]
) -> None:
    """Adds a change of the tensor `name`, which must have the `shape`, if that is given."""
    target = _target(plan, name)
    if target is None:
        problems.append(f"{name}, which the base does not have")
        return
    is_head = plan.base.tied and name.endswith(HEADS)
    before = plan.head if is_head else plan.changes.get(target)
    own = plan.base.stored[target].shape
    if before is not None and before.whole:
        own = _shapes_by_key(plan.adapter)[before.whole]
    if shape is not None and shape != own:
        problems.append(f"{name} of shape {list(shape)}, which has {list(own)} in the base")
        return
    if is_head:
        plan.head, plan.head_name = _joined(before, change), name
    else:
        plan.changes[target] = _joined(before, change)


def _joined(first: Change | None, second: Change) -> Change:
    if first is None:
        return second
    set_fields = {
        name: value for name, value in vars(second).items() if value != getattr(Change(), name)
    }
    return replace(first, **set_fields)


def _resize(plan: Plan, name: str, shape: Sequence[int], problems: list[str]) -> None:
    target = _target(plan, name)
    if target is None:
        return
    own = plan.base.stored[target].shape
    if len(shape) != 2 or shape[1:] != own[1:]:
        problems.append(f"{name} of shape {list(shape)}, which has {list(own)} in the base")
    elif shape[0] != own[0]:
        if plan.vocabulary not in (None, shape[0]):
            problems.append(f"embeddings of {plan.vocabulary} and {shape[0]} rows")
        plan.vocabulary = shape[0]


def _target(plan: Plan, name: str) -> str | None:
    return counterpart(name, plan.base)


def _trained_rows(config: AdapterConfig, module: str) -> tuple[int, ...]:
    indices = config.trainable_token_indices or []
    if isinstance(indices, dict):
        named = (ids for name, ids in indices.items() if f".{module}".endswith(f".{name}"))
        return tuple(next(named, []))
    return tuple(indices)


def _of_pattern(patterns: Mapping[str, float] | None, module: str, default: float) -> float:
    """Returns the value of the first pattern that fits the module, as PEFT matches them."""
    for pattern, value in (patterns or {}).items():
        if _matches(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _missing(plan: Plan, adapted: set[str]) -> Iterable[str]:
    """Yields the modules of the base that adapter_config.json names and the file does not have: a
    part of the adapter would be left out silently."""
    config, parts = plan.adapter.config, plan.adapter.parts
    for name in config.modules_to_save or []:
        if not any(f".{name}." in f".{part}" for part in parts):
            yield f"no {name}, which modules_to_save names"
    if config.layers_to_transform is not None or not config.target_modules:
        return
    partners = {_target(plan, f"{module}.weight") for module in adapted}
    for tensor, stored in plan.base.stored.items():
        if len(stored.shape) != 2 or not tensor.endswith(".weight") or tensor in partners:
            continue
        module = tensor.removesuffix(".weight")
        if _is_in(config.target_modules, module) and not (
            _is_in(config.exclude_modules, module)
            or any(f".{name}." in f".{module}." for name in config.modules_to_save or [])
        ):
            yield f"no lora_A of {module}, which target_modules names"
            return


def _is_in(names: str | list[str] | None, module: str) -> bool:
    if not names or names == "all-linear":
        return False
    if isinstance(names, str):
        return _matches(f"({names})$", module)
    return any(f".{module}".endswith(f".{name}") for name in names)


def _matches(pattern: str, module: str) -> bool:
    try:
        return re.match(pattern, module) is not None
    except re.error as error:
        raise refuse(
            f"{ADAPTER} has a pattern that cannot be read",
            shortened(pattern),
            "a regular expression",
            "correct it in a copy",
        ) from error


def _shapes_by_key(adapter: Adapter) -> dict[str, tuple[int, ...]]:
    return {part.key: part.shape for part in adapter.parts.values()}


def _does_not_fit(adapter: Adapter, base: Path, problems: list[str]) -> UserError:
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    named = shortened(str(adapter.config.base_model_name_or_path))
    return refuse(
        f"the adapter {adapter.path} does not fit the base {base}",
        f"{problems[0]}{more}",
        f"the model that it was trained on ({named})",
        "set adapter_base=DIR to that model, or copy the adapter again if it is incomplete",
    )
