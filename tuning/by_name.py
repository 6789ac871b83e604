"""Models and datasets of the Hugging Face Hub that settings name: downloaded before a command
starts, and replaced by their files on this machine.

A command that runs on a cluster needs no hub there: the checkpoints of a study are copied to
place.root, which every node can read (`tuning.session`), and the rows of a dataset are written
there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forkdiv.core.chat_template import checkpoint_template, is_model_name
from forkdiv.core.config.base import Frozen
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.hub import is_cached
from forkdiv.core.hub_names import (
    DATASET_FORM,
    MODEL_FORM,
    DatasetName,
    ModelName,
    Source,
    dataset_name,
    is_name,
    model_name,
    shadowed,
)
from forkdiv.core.store import Store, check_place
from forkdiv.models.hub import HubModel, open_model
from forkdiv.tasks.own_data.hub import fetch_dataset

# the settings that may name a model, and the section that a command reads them with
MODELS = (
    "base",
    "checkpoint",
    "adapter_base",
    "audit.model",
    "pretrain.start",
    "plan.architecture",
)
# those that may name a dataset, and the split that a name without one stands for
DATA = {
    "data": "test",
    "task.train": "train",
    "task.test": "test",
    "prompt.shots_data": "train",
}
TEMPLATE = "prompt.chat_template"
AUDITED = ("audit", "synthesize")  # their `data` are what a model learns from
SHAPE_ONLY = ("plan",)  # needs no weights
WITHOUT_DEVICE = ("plan", "interpolate", "export")  # run on any machine
SOURCES = "sources.jsonl"  # in the folder of a study's results


@dataclass(frozen=True)
class Download:
    """A model that a setting names; `path` is its folder in the hub's cache."""

    source: Source
    path: Path


def resolve(
    study: StudyConfig, verb: str, reads: tuple[str, ...], show: Callable[[str], None]
) -> StudyConfig:
    """Returns the study with local files in the place of all names that the verb reads. `show` gets
    one line per name, with its commit, before anything large is downloaded.

    Raises UserError for a name that is wrong or may not be read, before weights are downloaded; and
    as `HubModel.download` and `fetch_dataset` do.
    """
    update: dict[str, Any] = {}
    sources: list[Source] = []
    opened: dict[str, HubModel] = {}
    for setting in (*MODELS, TEMPLATE):
        if verb in SHAPE_ONLY and setting == "base" and study.plan.architecture:
            continue  # the architecture takes the place of the base's
        if name := _model_at(study, setting, reads):
            weights = verb not in SHAPE_ONLY and setting != TEMPLATE
            opened[setting] = open_model(name, weights)
            sources.append(Source(setting, str(name), opened[setting].commit))
            show(str(sources[-1]))
    for setting, named in _datasets(study, reads):
        split = "train" if setting == "data" and verb in AUDITED else DATA[setting]
        check_place(study.place)
        data = fetch_dataset(named, Store.of(study.place), show, split)
        sources.append(Source(setting, str(named), data.commit, str(data)))
        show(str(sources[-1]))
        update[setting] = data.path
    if opened and verb not in WITHOUT_DEVICE:
        from tuning import preflight

        # what would end the command later should not first cost a download
        preflight.check_device(study.place, on_cluster=verb != "audit")
    for setting, model in opened.items():
        if setting == TEMPLATE:
            update[setting] = _template(model)
        else:
            shape_only = verb in SHAPE_ONLY
            update[setting] = model.folder if shape_only else model.download(show)
    for note in _shadowed(study, reads):
        show(note)
    if not update:
        return study
    if "name" in reads:  # a command that writes results
        _record(study, verb, sources)
    return _with(study, update, sources)


def _record(study: StudyConfig, verb: str, sources: list[Source]) -> None:
    """Adds what the names stood for to a file in the folder of the study's results."""
    check_place(study.place)
    study.folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [json.dumps({"time": now, "command": verb, **asdict(source)}) for source in sources]
    with (study.folder / SOURCES).open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def checkpoints(
    setting: str, paths: Sequence[Path], show: Callable[[str], None]
) -> dict[Path, Download]:
    """Returns the files of those checkpoints that are names on the hub, downloaded. Raises as
    `resolve` does."""
    opened: dict[Path, tuple[Source, HubModel]] = {}
    for path in filter(is_name, paths):
        name = _require_model(setting, path)
        model = open_model(name)
        opened[path] = Source(setting, str(name), model.commit), model
        show(str(opened[path][0]))
    return {
        path: Download(source, model.download(show)) for path, (source, model) in opened.items()
    }


def _model_at(study: StudyConfig, setting: str, reads: tuple[str, ...]) -> ModelName | None:
    """Returns the name of a model that the setting has, if the verb reads it."""
    value = _value(study, setting, reads)
    if setting == TEMPLATE:
        return model_name(value) if isinstance(value, str) and is_model_name(value) else None
    if not isinstance(value, Path) or not is_name(value):
        return None
    return _require_model(setting, value)


def _require_model(setting: str, path: Path) -> ModelName:
    if name := model_name(str(path)):
        return name
    raise refuse(f"{setting} names no model", path, f"a path, or {MODEL_FORM}", "correct it")


def _datasets(study: StudyConfig, reads: tuple[str, ...]) -> Iterator[tuple[str, DatasetName]]:
    """Yields the settings that name a dataset, of those that the verb reads."""
    for setting in DATA:
        value = _value(study, setting, reads)
        if not isinstance(value, Path) or not is_name(value):
            continue
        if (name := dataset_name(str(value))) is None:
            raise refuse(
                f"{setting} names no dataset", value, f"a path, or {DATASET_FORM}", "correct it"
            )
        yield setting, name


def _value(study: StudyConfig, setting: str, reads: tuple[str, ...]) -> object:
    """Returns the value of a setting; None if the verb does not read it, or the task has none."""
    section, _, key = setting.partition(".")
    if section not in reads:
        return None
    value = getattr(study, section)
    return getattr(value, key, None) if key else value


def _template(model: HubModel) -> str:
    template = checkpoint_template(model.folder)
    if template is None:
        raise refuse(
            f"prompt.chat_template={model.repository.name} has no chat template",
            "a model without one",
            "a model with a chat template, a Jinja file, or a template",
            "correct prompt.chat_template",
        )
    return template


def _shadowed(study: StudyConfig, reads: tuple[str, ...]) -> Iterator[str]:
    """Yields a note for each path that could also be the name of what the hub's cache has."""
    kinds = {**dict.fromkeys(MODELS, "model"), **dict.fromkeys(DATA, "dataset")}
    for setting, kind in kinds.items():
        value = _value(study, setting, reads)
        text = shadowed(value) if isinstance(value, Path) and not is_name(value) else None
        name = model_name(text) or dataset_name(text) if text else None
        if name and is_cached("model" if kind == "model" else "dataset", name.repo):
            yield (
                f"note: {setting}={text} is a path on this machine, and is used instead of the "
                f"{kind} {text} of the Hugging Face Hub"
            )


def _with(study: StudyConfig, update: dict[str, Any], sources: list[Source]) -> StudyConfig:
    """Returns the study with other values of dotted settings."""
    top: dict[str, Any] = {}
    for setting, value in update.items():
        section, _, key = setting.partition(".")
        if not key:
            top[section] = value
            continue
        whole: Frozen = top.get(section, getattr(study, section))
        top[section] = whole.model_copy(update={key: value})
    return study.with_sources(top, sources)
