"""The settings reference: every setting with type, default, unit and meaning, from the models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from forkdiv.core.config import reference
from forkdiv.core.config.base import members
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.tasks import KINDS, config_class
from forkdiv.core.errors import UserError

ROOT = Path(__file__).parents[2]
EVERY = {one.key: one for section in reference.sections() for one in section.settings}


def models_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for kind in members(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not model:
                yield from models_below(kind)


def undescribed(model: type[BaseModel]) -> list[str]:
    """A task's kind needs none: its section says what the task is."""
    return [
        name
        for name, field in model.model_fields.items()
        if name != "kind" and not (field.description or "").strip().endswith(".")
    ]


ROOTS: list[type[BaseModel]] = [StudyConfig, *map(config_class, KINDS.names())]
MODELS = [one for root in ROOTS for one in models_below(root)]


@pytest.mark.parametrize("model", dict.fromkeys(MODELS), ids=lambda model: model.__name__)
def test_every_setting_has_a_description(model: type[BaseModel]) -> None:
    assert undescribed(model) == []
    assert model.__doc__ and len(model.__doc__.split()) < 60


def test_a_setting_says_its_type_limits_default_unit_and_meaning() -> None:
    one = EVERY["synthesis.samples"]
    assert (one.section, one.default, one.unit) == ("synthesis", "16", "samples")
    assert one.type == "integer, at least 1, at most 4,096"
    assert one.meaning.startswith("Samples drawn at each decision point")


@pytest.mark.parametrize(
    ("key", "type", "unit"),
    [
        ("name", "text", ""),
        ("place.overlap", "true or false", ""),
        ("sft.loss", "one of cross-entropy, label-smoothing, gem, dco, fork-aware", ""),
        ("sft.smoothing", "number, more than 0, below 1", "share"),
        ("sft.save_epochs", "list of: integer, at least 1", "epochs"),
        ("decoder.gate_entropy", "number, at least 0, or null", "nats"),
        ("place.engine.start_timeout_s", "number, more than 0", "seconds"),
        ("place.pack_tokens", "integer, at least 1, or null", "tokens"),
        ("decoders", "sections by name", ""),
        ("sft.loss_options", "values by name", ""),
        ("sweep.temperature", "list of: number, at least 0, at most 2", ""),
    ],
)
def test_types_are_written_in_words(key: str, type: str, unit: str) -> None:
    assert (EVERY[key].type, EVERY[key].unit) == (type, unit)


def test_every_default_is_what_a_study_has_when_it_is_set() -> None:
    """Written as an override, no default changes anything: it is YAML and it is right."""
    for one in EVERY.values():
        # a single setting of pretrain.sft resets the others, as its description says
        if not one.key.startswith(("task.", "pretrain.sft.")):
            assert load(None, [f"{one.key}={one.default}"]) == StudyConfig(), one.key
        yaml.safe_load(one.default)


def test_a_nested_default_is_that_of_its_own_section() -> None:
    assert EVERY["pretrain.sft.batch_size"].default == "64"
    assert EVERY["sft.batch_size"].default == "32"


def test_the_default_base_is_a_name_whatever_the_current_folder(tmp_path: Path) -> None:
    code = (
        "from forkdiv.core.config import reference;"
        "print(*(one.default for section in reference.sections() for one in section.settings"
        " if one.key in ('base', 'place.root')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["graph-d3-l3", "runs"]


def names(section: str | None) -> list[str]:
    return [one.name for one in reference.select_sections(section)]


def test_a_section_is_listed_with_its_parts_and_a_setting_alone() -> None:
    assert names("place") == ["place", "place.engine", "place.http"]
    assert names("place.engine") == ["place.engine"]
    assert names("study") == [""]
    (alone,) = reference.select_sections("sft.epochs")
    assert [one.key for one in alone.settings] == ["sft.epochs"]
    assert {"task.graph_branching", "task.file"} < set(names("task"))
    (task,) = reference.select_sections("task.graph_branching")
    assert {"task.kind", "task.degree", "task.seed"} < {one.key for one in task.settings}


@pytest.mark.parametrize(
    ("wrong", "near"), [("decodr", "did you mean decoder?"), ("sft.epoch", "sft.epochs?")]
)
def test_an_unknown_section_is_refused_with_the_list_and_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UserError) as refused:
        reference.select_sections(wrong)
    assert f"got {wrong}" in str(refused.value) and near in str(refused.value)
    assert "place.engine" in str(refused.value)
