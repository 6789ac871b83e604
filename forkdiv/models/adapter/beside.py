"""A folder with an adapter beside the weights of a whole model, as some trainers leave it."""

from __future__ import annotations

from pathlib import Path

import torch

from forkdiv.core.errors import refuse
from forkdiv.models.adapter.config import ADAPTER, Adapter
from forkdiv.models.adapter.merge import merged
from forkdiv.models.adapter.plan import make
from forkdiv.models.own_tensors import OwnTensors, read

# Other releases round the sum once more, or add in the dtype of the base: some units in the last
# place of the base, and a small part of what the adapter changes.
ROUNDINGS, SHARE = 4, 0.1


def check_same_model(adapter: Adapter, base: Path) -> None:
    """Raises UserError unless the weights beside the adapter are those of its base, or those of the
    base with the adapter merged in: both are the same model, the base with its adapter."""
    own, plan = read(adapter.path), make(adapter, read(base))
    is_base = is_merged = own.stored.keys() - {plan.head_name} == plan.base.stored.keys() - {
        plan.head_name
    }
    if is_base:
        for name in own.stored:
            before, after = _both(plan.base, name), merged(plan, name)
            beside = own.load(name)
            is_base = is_base and before is not None and _equal(beside, before)
            is_merged = is_merged and _is_near(beside, after, before)
            if not (is_base or is_merged):
                break
    if not (is_base or is_merged):
        raise refuse(
            f"the checkpoint {adapter.path} has an adapter beside its weights, and the weights are "
            "neither those of the adapter's base nor those with the adapter merged in",
            f"{ADAPTER} (of the base {base}) and other model weights",
            "a folder of one model",
            f"remove {ADAPTER} from a copy to use the weights, or the weights to use the adapter; "
            "if the adapter was trained on another base, set adapter_base=DIR",
        )


def _both(base: OwnTensors, name: str) -> torch.Tensor | None:
    """Returns the tensor of the base; that of the embedding for a head that is tied to it."""
    source = name if name in base.stored else base.embedding
    return base.load(source) if source else None


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.float(), second.float())


def _is_near(beside: torch.Tensor, after: torch.Tensor, before: torch.Tensor | None) -> bool:
    if beside.shape != after.shape:
        return False
    difference = (beside.float() - after.float()).abs()
    if not bool(difference.any()):
        return True
    if before is None or before.shape != after.shape:
        return False
    unit = torch.finfo(after.dtype).eps * float(before.float().abs().max())
    changed = float((after.float() - before.float()).norm())
    return float(difference.max()) <= ROUNDINGS * unit and float(difference.norm()) <= (
        SHARE * changed
    )
