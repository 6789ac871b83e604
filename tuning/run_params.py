"""The parameters and tags of a trial's run in MLflow."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from typing import Any

from forkdiv.core.config.axis_names import path_of
from forkdiv.core.config.study import StudyConfig
from tuning.space import Point, axes

BASE = "base"  # the value of params that only fine-tuned models have


def params(study: StudyConfig, point: Point) -> dict[str, float | int | str]:
    """Returns the settings that vary, and those settings of training that the study sets. Other
    constants are the study's parameters.

    For what varies, the base has the text `base`: MLflow would draw a missing number beside the
    largest one. It has the constants, so that they do not appear as a difference."""
    own = [axis for axis in axes(study) if path_of(axis) in study.sweep.by_path]
    missing = dict.fromkeys(own, BASE) if not point.tuned else {}
    varied: dict[str, float | int | str] = {**missing, **point.varied}
    varied["temperature"] = point.temperature
    if point.decoder:
        varied["decoder"] = point.decoder
    if len(study.sweep.seed) > 1:
        varied["seed"] = point.seed if point.tuned else BASE
    return varied | {
        name: value
        for name, value in training_settings(study).items()
        if name not in varied and name.rpartition(".")[2] not in varied
    }


def training_settings(study: StudyConfig) -> dict[str, float | int | str]:
    """Returns the settings of fine-tuning that differ from their defaults, and those that people
    look for first."""
    config = study.sft
    values = config.model_dump(mode="json", exclude_defaults=True)
    values |= {
        "learning_rate": config.learning_rate,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "loss": config.loss,
    }
    flat = _flat({"sft": values})
    return {name: value for name, value in flat.items() if value is not None}


def settings_tags(study: StudyConfig) -> dict[str, str]:
    """Returns all settings of the trial, including the effective decoder."""
    settings = {
        "task": study.task,
        "prompt": study.prompt,
        "decoder": study.decoder,
        "dataset": study.dataset,
        "sft": study.sft,
    }
    return {
        f"{section}.{key}": str(value)
        for section, config in settings.items()
        for key, value in config.model_dump(mode="json").items()
    }


def user() -> str:
    """Returns the name of the person who runs this, as MLflow shows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        return "unknown"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = json.dumps(value) if isinstance(value, list) else value
    return flat
