"""The data that a verb works on: a user's file, a forkdiv dataset, or the data of the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.tasks import TaskConfig, task_adapter
from forkdiv.core.errors import refuse
from forkdiv.core.records import Example
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.own_data.task import UNGRADED, OwnData
from forkdiv.tasks.registry import build


def with_task_of_data(study: StudyConfig, grades: bool = True) -> StudyConfig:
    """Returns the study with the task of `study.data`: that of a forkdiv dataset is read from its
    card; any other file is read with the columns and grader of the settings, or no grader. Without
    `grades`, a grader is used only if it was set."""
    if study.data is None:
        return study
    if folder := _dataset_folder(study.data):
        task = _task_of(folder)
    elif isinstance(study.task, FileConfig):
        update: dict[str, object] = {"train": study.data, "test": None}
        if not grades and "grader" not in study.task.model_fields_set:
            update["grader"] = UNGRADED
        task = study.task.model_copy(update=update)
    else:
        task = FileConfig(train=study.data, grader=UNGRADED)
    return study.model_copy(update={"task": task})


def examples(
    study: StudyConfig, on_wait: Callable[[str], None] = lambda message: None
) -> Iterable[Example]:
    """Returns the examples of a study that `with_task_of_data` returned."""
    if study.data is None:
        store = Store.of(study.place)
        return dataset.stream(
            dataset.obtain_sft(store, build(study.task), study.dataset, on_wait).path
        )
    if folder := _dataset_folder(study.data):
        return dataset.stream(folder)
    # every row of a file, not the share that a study would train on
    task = build(study.task)
    assert isinstance(task, OwnData)
    return task.training_examples()


def _dataset_folder(path: Path) -> Path | None:
    """Returns the folder of a dataset that forkdiv wrote, or None for other data."""
    folder = path if path.is_dir() else path.parent
    inside = path.is_dir() or path.name == dataset.EXAMPLES
    whole = (folder / dataset.CARD).is_file() and (folder / dataset.EXAMPLES).is_file()
    return folder if inside and whole else None


def _task_of(folder: Path) -> TaskConfig:
    try:
        task = dataset.read_card(folder)["task"]
        if task["kind"] in ("file", "benchmark"):
            return FileConfig(train=folder / dataset.EXAMPLES, grader=task["grader"])
        return task_adapter.validate_python(task)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise refuse(
            f"the card of the dataset {folder} cannot be read",
            " ".join(f"{type(error).__name__} {error}".split())[:200],
            f"{dataset.CARD} as forkdiv wrote it",
            "create the dataset again, or rename the Parquet file to use it without its card",
        ) from error
