"""Files that ship with forkdiv, by name: configs, base models, model architectures.

They are located relative to the installed package, independent of the current folder. `jobs` is
not imported for this: a folder of that name in the user's project would be imported instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

import forkdiv
from forkdiv.core.errors import UserError, refuse, shortened
from forkdiv.core.hub_names import model_or_path, path_text

PACKAGE = Path(forkdiv.__file__).absolute().parent
CONFIGS = PACKAGE.parent / "jobs" / "configs"
DEFAULT_BASE = "graph-d3-l3"


def bases() -> dict[str, Path]:
    """Returns the shipped base models by name: Hugging Face folders."""
    return {
        path.parent.name: path.parent for path in _files(PACKAGE / "models/base", "*/config.json")
    }


def configs() -> dict[str, Path]:
    """Returns the named configs: YAML files by name."""
    return {path.stem: path for path in _files(CONFIGS, "*.yaml")}


def architectures() -> dict[str, Path]:
    """Returns the model architectures by name, for `forkdiv plan`: config.json files."""
    return {path.stem: path for path in _files(CONFIGS / "architectures", "*.json")}


def config_file(path: Path) -> Path:
    """Returns the file that `--config` names: an existing path, else a named config.

    Raises UserError for a name that is neither, with all names and the nearest one.
    """
    if path.is_absolute() or len(path.parts) > 1 or _exists(path):
        return path
    known = configs()
    if path.name in known:
        return known[path.name]
    if path.suffix in (".yaml", ".yml"):
        return path  # a missing file: reading it reports the error
    raise unknown_name("there is no config of this name", path, known, "a YAML file, or one of")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long, or a folder above it cannot be entered
        return False


def question(config: Path) -> str:
    """Returns the question that a named config answers: its first comment, up to the first `?`."""
    lines = []
    for line in config.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition("?")[0] + "?"


def unknown_name(wrong: str, came: object, known: Iterable[str], allowed: str) -> UserError:
    """Returns a UserError that lists all known names and suggests the nearest one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(came), names, n=1)
    remedy = f"did you mean {near[0]}?" if near else "run `forkdiv configs` to see what each is for"
    return refuse(wrong, shortened(str(came)), f"{allowed} {', '.join(names)}", remedy)


def checkpoint_path(value: object) -> object:
    """Returns the folder of a checkpoint for the value of a setting: a shipped base if it is its
    name, else an absolute path, or the name of a model on the hub as a relative path
    (`forkdiv.core.hub_names`). A folder of your own with the name of a shipped base must be given
    as an absolute path."""
    return bases().get(str(value)) or model_or_path(value)


def _architecture_file(value: object) -> object:
    return architectures().get(str(value)) or model_or_path(value)


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


# the validator on the right comes first
CheckpointPath = Annotated[Path, BeforeValidator(path_text), BeforeValidator(checkpoint_path)]
ArchitecturePath = Annotated[Path, BeforeValidator(path_text), BeforeValidator(_architecture_file)]
