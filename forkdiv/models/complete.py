"""Whether a checkpoint that another program is writing is complete."""

from __future__ import annotations

from pathlib import Path

from forkdiv.core.errors import UserError
from forkdiv.models.adapter import config as adapter_config
from forkdiv.models.files import read_json
from forkdiv.models.weights import check_weights, weight_files

STATE, ARGUMENTS = (
    "trainer_state.json",
    "training_args.bin",
)  # the last and an early file of Trainer
Seen = tuple[tuple[str, int, int, int], ...]


def state_of(folder: Path) -> Seen:
    """Returns name, size, time of change and inode of each file of the folder: two equal states
    that some time lies between are those of a folder to which nobody writes."""
    seen = []
    for file in sorted(folder.iterdir()):
        if file.is_file():
            stat = file.stat()
            seen.append((file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(seen)


def missing(folder: Path) -> str | None:
    """Returns what the folder still lacks as a checkpoint, an adapter or a whole model; None if it
    is complete. Reads headers only: they say how long a file must be."""
    has_adapter = adapter_config.has_adapter(folder)
    if not has_adapter and not (folder / "config.json").is_file():
        return "config.json"
    try:
        if has_adapter:
            adapter_config.read(folder)
        else:
            read_json(folder / "config.json")
            check_weights(folder)
    except UserError as error:
        return str(error)
    # Trainer writes its state after everything else; training_args.bin says that it is Trainer
    if (folder / ARGUMENTS).exists() and not _has_state(folder):
        return STATE
    return None


def has_ended(folder: Path) -> bool:
    """Returns whether trainer_state.json says that the training ended with this checkpoint."""
    try:
        state = read_json(folder / STATE, optional=True)
    except UserError:
        return False
    step, most = state.get("global_step"), state.get("max_steps")
    return isinstance(step, int) and isinstance(most, int) and 0 < most <= step


def model_files(folder: Path) -> list[Path]:
    """Returns the files of the folder with weights: those of the adapter if it has one."""
    if adapter_config.has_adapter(folder):
        return [folder / adapter_config.WEIGHTS]
    return weight_files(folder)


def _has_state(folder: Path) -> bool:
    try:
        return bool(read_json(folder / STATE, optional=True))
    except UserError:  # half written
        return False
