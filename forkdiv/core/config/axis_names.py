"""How results name the axes of a study, derived from the config's fields.

The key of an axis in results is its short name if SweepConfig has one (`fork_density`), else the
path of its setting (`sft.learning_rate`). An axis that this version does not know, in a summary of
another version, is named by its key.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from forkdiv.core.config.axes import (
    ALIAS_OF_PATH,
    AxisField,
    axis_fields,
    is_of_tuned,
    reason_against,
)
from forkdiv.core.config.base import AxisWords
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.sweep import ALIASES
from forkdiv.core.config.tasks import KINDS, config_class


def key_of(path: str) -> str:
    """Returns the key of an axis in results."""
    return ALIAS_OF_PATH.get(path, path)


def path_of(key: str) -> str:
    """Returns the path of the setting that an axis varies."""
    return ALIASES.get(key, key)


def label(key: str) -> str:
    """Returns the short name in the names of trials and in narrow tables: the declared one, or the
    last part of the path if no other setting has that name, else the path."""
    path = path_of(key)
    if short := _words(path).short:
        return short
    return key if key in ALIASES else _last_part(path)


def title(key: str) -> str:
    """Returns the name in words, such as `fork density`."""
    if words := _words(path_of(key)).title:
        return words
    return (key if key in ALIASES else _last_part(path_of(key))).replace("_", " ")


def sentence_title(key: str) -> str:
    """Returns the title as the beginning of a sentence."""
    words = title(key)
    return words[0].upper() + words[1:]


def meaning(key: str) -> str:
    """Returns the rest of a sentence that begins with the title: what the axis is."""
    path = path_of(key)
    if words := _words(path).meaning:
        return words
    field = _field(path)
    description = " ".join((field.field.description or "").split()) if field else ""
    return f"is the setting {path}" + (f": {description.rstrip('.')}" if description else "")


def phrase(key: str, text: str) -> str:
    """Returns the value of an axis of texts in words, such as `gem loss`."""
    words = _words(path_of(key))
    if text in words.phrases:
        return words.phrases[text]
    return words.phrase.format(text) if words.phrase else f"{title(key)} {text}"


def stands_alone(key: str) -> bool:
    """Whether a value needs no name beside it."""
    return _words(path_of(key)).stands_alone


def terms(keys: Iterable[str]) -> set[str]:
    """Returns which terms a report with these axes has to explain: `forks`, `signs`."""
    words = [_words(path_of(key)) for key in keys]
    return {name for name in ("forks", "signs") if any(getattr(each, name) for each in words)}


def is_measured(key: str) -> bool:
    """Whether the axis changes how models are measured, so that the base is measured for each of
    its values as well. Other axes change the tuned models only."""
    field = _field(path_of(key))
    return field is not None and not is_of_tuned(field)


def is_category(key: str) -> bool:
    """Whether the values are texts and not numbers."""
    field = _field(path_of(key))
    return field is not None and not field.is_number


@cache
def text_titles() -> frozenset[str]:
    """Returns the titles of all axes whose values are texts."""
    tasks = [axis_fields(StudyConfig, config_class(kind)) for kind in KINDS.names()]
    fields = {path: field for known in tasks for path, field in known.items()}
    texts = [path for path, field in fields.items() if not field.is_number]
    return frozenset(title(key_of(path)) for path in texts)


def known_texts(key: str) -> tuple[str, ...]:
    """Returns the texts that the axis may have, in their order; empty if there is no such list."""
    field = _field(path_of(key))
    return field.known_texts if field else ()


def _words(path: str) -> AxisWords:
    field = _field(path)
    return field.words if field else AxisWords()


@cache
def _field(path: str) -> AxisField | None:
    """Returns the field of a path. The settings of a task are looked up in all tasks, because
    results do not say of which task an axis is."""
    if not path.startswith("task."):
        return _fields().get(path)
    for kind in KINDS.names():
        fields = axis_fields(StudyConfig, config_class(kind))
        if path in fields:
            return fields[path]
    return None


@cache
def _fields() -> dict[str, AxisField]:
    return axis_fields(StudyConfig, None)


@cache
def _last_part(path: str) -> str:
    """Returns the last part of a path, or the whole path if another axis has that name."""
    last = path.split(".")[-1]
    others = [name for name in _fields() if name != path and not reason_against(name)]
    shorts = {field.words.short for field in _fields().values()}
    is_taken = last in {*ALIASES, *shorts, *(name.split(".")[-1] for name in others)}
    return path if is_taken else last
