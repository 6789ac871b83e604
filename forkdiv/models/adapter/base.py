"""Where the base of an adapter is: what its adapter_config.json names, or what the user gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forkdiv.core.config import shipped
from forkdiv.core.errors import UserError, refuse, shortened
from forkdiv.core.hub_names import ModelName, model_name
from forkdiv.models.adapter.config import ADAPTER, Adapter
from forkdiv.models.hub import open_model

QUANTISED = ("4bit", "8bit", "gptq", "awq", "int4", "int8", "fp8")  # in names of repositories


def find(
    adapter: Adapter,
    given: Path | None = None,
    otherwise: Path | None = None,
    start: Path | None = None,
    show: Callable[[str], None] = lambda line: None,
) -> Path:
    """Returns the folder of the adapter's base: `given`, else the folder that adapter_config.json
    names, else `otherwise`, for which `show` gets a line, else the model of that name on the
    Hugging Face Hub, which is downloaded.

    A relative path starts at the current folder, as in PEFT, or else at `start`, the folder of the
    adapter. Raises UserError if there is none.
    """
    if given is not None:
        return given
    if folder := _named_folder(adapter, start or adapter.path):
        return folder
    if otherwise is not None:
        name = shortened(str(adapter.config.base_model_name_or_path))
        where = start or adapter.path
        show(f"the base of the adapter {where} ({name}) is not here: base={otherwise} is used")
        return otherwise
    if hub_name := _hub_name(adapter):
        return _downloaded(adapter, hub_name, show)
    raise _not_here(adapter)


def _hub_name(adapter: Adapter) -> ModelName | None:
    name, revision = adapter.config.base_model_name_or_path, adapter.config.revision
    return model_name(f"{name}@{revision}" if revision else str(name)) if name else None


def _downloaded(adapter: Adapter, name: ModelName, show: Callable[[str], None]) -> Path:
    try:
        model = open_model(name)
        show(f"the base of the adapter {adapter.path}: {name} at {model.commit}")
        return model.download(show)
    except UserError as error:
        raise UserError(
            f"the base of the adapter {adapter.path} cannot be had ({error}); or set "
            "adapter_base=DIR to a folder with that model"
        ) from error


def _named_folder(adapter: Adapter, start: Path) -> Path | None:
    name = adapter.config.base_model_name_or_path
    if not name or "\0" in name:
        return None
    if name in shipped.bases():
        return shipped.bases()[name]
    named = Path(name).expanduser()
    candidates = [named] if named.is_absolute() else [Path.cwd() / named, start / named]
    try:
        return next((path for path in candidates if (path / "config.json").is_file()), None)
    except OSError:  # a name that is too long for a path
        return None


def _not_here(adapter: Adapter) -> UserError:
    name = adapter.config.base_model_name_or_path
    shown = "none" if name is None else shortened(repr(name))
    is_quantised = name and any(mark in name.lower() for mark in QUANTISED)
    revision = f" at revision {adapter.config.revision}" if adapter.config.revision else ""
    return refuse(
        f"the base of the adapter {adapter.path} is not on this machine",
        f"base_model_name_or_path={shown}{revision} in {ADAPTER}",
        "a folder with the model that the adapter was trained on"
        + (", not quantised" if is_quantised else ""),
        "set adapter_base=DIR to that folder",
    )
