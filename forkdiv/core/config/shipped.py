"""What forkdiv ships beside its code, by name: configs, base models, model architectures.

They are found beside the installed packages, whatever the current folder is. By position and not
by importing `jobs`: a folder of that name in the user's own project would be found instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

import forkdiv
from forkdiv.core.errors import UserError, refuse

PACKAGE = Path(forkdiv.__file__).absolute().parent
CONFIGS = PACKAGE.parent / "jobs" / "configs"
DEFAULT_BASE = "graph-d3-l3"


def bases() -> dict[str, Path]:
    """The shipped base models by name: Hugging Face folders."""
    return {
        path.parent.name: path.parent for path in _found(PACKAGE / "models/base", "*/config.json")
    }


def configs() -> dict[str, Path]:
    """The named configs by name: YAML files."""
    return {path.stem: path for path in _found(CONFIGS, "*.yaml")}


def architectures() -> dict[str, Path]:
    """The model architectures by name, for `forkdiv plan`: config.json files."""
    return {path.stem: path for path in _found(CONFIGS / "architectures", "*.json")}


def config_file(given: Path) -> Path:
    """The file that `--config` names: an existing path, else a named config.

    Raises UserError for a name that is neither, with the list and the nearest name.
    """
    if given.exists() or given.is_absolute() or len(given.parts) > 1:
        return given
    known = configs()
    if given.name in known:
        return known[given.name]
    if given.suffix in (".yaml", ".yml"):
        return given  # a file that is not there: reading it says so
    raise unknown_name("there is no config of this name", given, known, "a YAML file, or one of")


def question(config: Path) -> str:
    """The question that a named config answers: the comment at its head, up to the first `?`."""
    lines = []
    for line in config.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition("?")[0] + "?"


def unknown_name(wrong: str, came: object, known: Iterable[str], allowed: str) -> UserError:
    """A refusal that lists the names there are and suggests the nearest one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(came), names, n=1)
    remedy = f"did you mean {near[0]}?" if near else "run `forkdiv configs` to see what each is for"
    return refuse(wrong, came, f"{allowed} {', '.join(names)}", remedy)


def base_folder(given: Path) -> Path:
    """The folder of a checkpoint: a shipped base where `given` is the name of one, else the path,
    made absolute. A folder of your own with such a name is meant by its absolute path."""
    return bases().get(str(given)) or given.absolute()


def _architecture_file(given: Path) -> Path:
    return architectures().get(str(given)) or given.absolute()


def _found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


CheckpointPath = Annotated[Path, AfterValidator(base_folder)]
ArchitecturePath = Annotated[Path, AfterValidator(_architecture_file)]
