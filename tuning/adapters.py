"""Adapters in place of whole checkpoints: each is merged into its base, once, in the store.

They are merged rather than served through vLLM's LoRA, because only then is every bit with which
the engine computes that of a file, which the proof of a swap compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkdiv.core.config.shipped import bases
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store, check_place
from forkdiv.models.adapter import base as adapter_base
from forkdiv.models.adapter.config import Adapter, has_adapter, has_weights, read
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.digests import DIGESTS
from forkdiv.models.weights import weight_files
from tuning import own_dtype

Show = Callable[[str], None]


def with_merged(study: StudyConfig, show: Show, beside_weights: bool = True) -> StudyConfig:
    """Returns the study with merged checkpoints in place of a base and a checkpoint that are
    adapters, and with the number format of its base (errors: see `merged`). Without
    `beside_weights`, a folder that has both weights and an adapter is left as it is."""
    update: dict[str, Any] = {}
    for name in ("base", "checkpoint"):
        path = getattr(study, name)
        if path is not None and has_adapter(path) and (beside_weights or not has_weights(path)):
            update[name] = merged(study.model_copy(update=update), path, show)
    if not update:
        return study
    study, resolved = own_dtype.resolve(study.model_copy(update=update))
    for line in resolved:
        show(f"{line} (the number format of the base)")
    return study


def merged(study: StudyConfig, folder: Path, show: Show) -> Path:
    """Returns the merged checkpoint of an adapter's folder, which is written to the store if it is
    not there; any other folder is returned as it is.

    Raises UserError for an adapter that is damaged, of another kind than LoRA, or without a base on
    this machine, and if it does not fit the base.
    """
    if not has_adapter(folder):
        return folder
    from forkdiv.models.adapter import beside, merge  # torch: seconds

    adapter, base = opened(study, folder, show)
    merge.planned(adapter, base.path)
    size = sum(file.stat().st_size for file in weight_files(base.path)) // 2**20
    check_place(study.place, size)
    if has_weights(folder) and base.path != folder.resolve():
        beside.check_same_model(adapter, base.path)
        show(f"{folder} has weights beside its adapter: both are the base with this adapter")
    return merge.obtain(Store.of(study.place), adapter, base, show)


def opened(
    study: StudyConfig,
    folder: Path,
    show: Show = lambda line: None,
    named_from: Path | None = None,
) -> tuple[Adapter, Checkpoint]:
    """Returns an adapter and its base, both checked. `named_from` is the folder at which a relative
    path of the base starts, if the adapter's folder is a copy."""
    adapter = read(folder)
    is_given = "base" in study.model_fields_set and study.base is not None
    tuned_from = study.base if is_given and study.base != folder else None
    if tuned_from is not None and has_adapter(tuned_from):
        tuned_from = None
    path = adapter_base.find(adapter, study.adapter_base, tuned_from, named_from, show)
    base = open_checkpoint(path, stray_adapter=path == folder)
    if not (path in bases().values() or (path / DIGESTS).is_file()):
        from forkdiv.models.loading import check_loadable  # torch: seconds

        check_loadable(path)
    return adapter, base
