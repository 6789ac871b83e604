"""The checkpoints that one training saved: the folders of a run, by epoch or step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from forkdiv.core.errors import refuse, shortened
from forkdiv.models.adapter.config import has_adapter
from forkdiv.models.checkpoint import read_config
from forkdiv.models.files import is_file_name, read_json

MAX_EPOCH = 10**9
SAVES = "saves.json"  # in a run's folder: maps each checkpoint's folder to its epoch
SHOWN = 6


def saved_checkpoints(path: Path, pattern: str | None = None) -> tuple[str, dict[float, Path]]:
    """Returns the unit ("epoch" or "step") and the checkpoints of a folder, keyed in that unit and
    in its order: whole models and adapters.

    A folder that is itself a checkpoint has the key 0. A run's folder has subfolders such as
    `epoch-0003` or `checkpoint-500`; if the run recorded the epoch of each (1.5: in the middle of
    the second epoch), the unit is the epoch. With `pattern`, the checkpoints are the subfolders
    whose names match it, whatever they are called, keyed by the number in which their names differ.
    Raises UserError for any other folder.
    """
    if pattern is not None and path.is_dir():
        return _matching(path, pattern)
    if has_adapter(path):
        return "epoch", {0: path}
    if (path / "config.json").is_file() or not path.is_dir():
        read_config(path)
        return "epoch", {0: path}
    has_record = (path / SAVES).is_file()
    by_unit = {"epoch": _recorded_epochs(path)} if has_record else _by_name(path)
    if len(by_unit) != 1:
        raise refuse(
            f"{path} is neither a checkpoint nor a run's folder of checkpoints",
            "no config.json" if not by_unit else "both epochs and steps",
            "a Hugging Face folder, or a folder with checkpoint-N or epoch-N folders",
            "check the path, or name the folders with --checkpoints 'PATTERN'",
        )
    ((unit, checkpoints),) = by_unit.items()
    return unit, dict(sorted(checkpoints.items()))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is meant as a checkpoint: it has the config of a model or of an adapter."""
    return (folder / "config.json").is_file() or has_adapter(folder)


def numbered(names: Sequence[str]) -> dict[float, str] | None:
    """Returns the names by the number in which they differ (the first one that is different in each
    of them), in its order; None if there is no such number."""
    digits = [re.findall(r"\d+", name) for name in names]
    for column in zip(*digits, strict=False):
        numbers = [int(number) for number in column]
        if len(set(numbers)) == len(names):
            return dict(sorted(zip(numbers, names, strict=True)))
    return None


def unit_of(names: Sequence[str]) -> str:
    """Returns what the numbers in the names of folders count."""
    return "epoch" if all("epoch" in name.lower() for name in names) else "step"


def _matching(path: Path, pattern: str) -> tuple[str, dict[float, Path]]:
    try:
        found = [folder for folder in path.glob(pattern) if folder.is_dir()]
    except (ValueError, NotImplementedError) as error:
        raise refuse(
            "the pattern of the checkpoints cannot be read",
            f"{pattern!r} ({error})",
            "a pattern of names inside the run folder, such as step-*",
            "correct --checkpoints",
        ) from error
    folders = {folder.relative_to(path).as_posix(): folder for folder in found}
    folders = {name: folder for name, folder in folders.items() if is_checkpoint(folder)}
    if not folders:
        others = sorted(each.name for each in path.iterdir() if is_checkpoint(each))
        raise refuse(
            f"no checkpoint of {path} matches the pattern",
            pattern,
            f"names such as {', '.join(others[:SHOWN])}" if others else "folders with checkpoints",
            "correct --checkpoints",
        )
    recorded = _recorded_epochs(path) if (path / SAVES).is_file() else {}
    if chosen := {epoch: each for epoch, each in recorded.items() if each in folders.values()}:
        return "epoch", dict(sorted(chosen.items()))
    names = numbered(list(folders))
    if names is None:
        raise refuse(
            f"the checkpoints of {path} that match {pattern} have no order",
            ", ".join(sorted(folders)[:SHOWN]),
            "names that differ in a number, each with another one",
            "correct --checkpoints, so that it matches the checkpoints of one run",
        )
    return unit_of(list(folders)), {number: folders[name] for number, name in names.items()}


def _recorded_epochs(path: Path) -> dict[float, Path]:
    """Returns the checkpoints of a run's folder by the epoch that the run recorded for each."""
    epochs = read_json(path / SAVES)
    if not epochs:
        raise refuse(
            f"{path} has no checkpoints",
            f"an empty {SAVES}",
            "a run's folder that has saved at least one checkpoint",
            "train again, or use another folder",
        )
    for name, epoch in epochs.items():
        is_number = isinstance(epoch, int | float) and not isinstance(epoch, bool)
        if not (is_number and 0 <= epoch < MAX_EPOCH and is_file_name(name)):
            raise refuse(
                f"{path / SAVES} is damaged",
                shortened(f"{name}: {epoch}"),
                "the epoch at which each checkpoint was saved, by the name of its folder",
                f"train again, or delete {SAVES} to use the numbers in the folders' names",
            )
    return {whole(epoch): path / name for name, epoch in epochs.items()}


def _by_name(path: Path) -> Mapping[str, dict[float, Path]]:
    by_unit: dict[str, dict[float, Path]] = {}
    for folder in path.iterdir():
        match = re.fullmatch(r"(epoch|checkpoint|step)[-_](\d+)", folder.name)
        if match and is_checkpoint(folder):
            unit = "epoch" if match[1] == "epoch" else "step"
            by_unit.setdefault(unit, {})[int(match[2])] = folder
    return by_unit


def whole(number: float) -> float:
    """Returns 2 for 2.0: the form that users read and that identifies cells."""
    return int(number) if number == int(number) else round(number, 4)
