"""The verbs: what each is for, what it takes, and which sections of the settings it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of one verb. It is short for the setting it names, or is passed to the job
    under its own name where it names none."""

    about: str
    setting: str | None = None
    many: bool = False


@dataclass(frozen=True)
class Words:
    """What arguments without `=` are: values of `setting`, or else of the job's parameter
    `parameter`, so that a shell's `DIR/*` can stand there."""

    metavar: str
    about: str
    setting: str | None = None
    parameter: str | None = None


@dataclass(frozen=True)
class Verb:
    """`reads` are sections of the settings, as `forkdiv settings SECTION` lists them."""

    about: str
    reads: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    words: Words | None = None


DATA = Option("A file of your own, or a dataset folder of forkdiv's.", "data")
PAIR = {
    "base": Option("The model before fine-tuning: a Hugging Face folder.", "base"),
    "tuned": Option("The model after it, or a folder of saved checkpoints.", "checkpoint"),
    "data": Option("Problems with their answers: JSONL, JSON, Parquet, CSV.", "data"),
}

TRAINED = ("task", "prompt", "base", "pretrain", "dataset", "synthesis", "sft")
SAMPLED = ("task", "prompt", "base", "checkpoint", "decoder", "eval")
SWEPT = (*TRAINED, "interpolation", "decoder", "decoders", "eval", "sweep", "name", "place")

VERBS: dict[str, Verb] = {
    "study": Verb("Run a whole study: the sweep, its table, its report.", SWEPT),
    "sweep": Verb("Run every trial of the grid.", SWEPT),
    "report": Verb(
        "Write the report of a finished study again.",
        ("name", "place"),
        {"beside": Option("The result folder of another study, to compare with.", many=True)},
    ),
    "pretrain": Verb(
        "Build a base model from random walks.", ("task", "pretrain", "name", "place")
    ),
    "dataset": Verb(
        "Write the SFT dataset of one setting and show its card.", ("task", "dataset", "place")
    ),
    "audit": Verb(
        "Find the decision points of a dataset.",
        ("data", "task", "prompt", "base", "dataset", "audit", "name", "place"),
        {"data": DATA},
    ),
    "synthesize": Verb(
        "Add solutions to a dataset where its forks are under-covered.",
        ("data", "task", "prompt", "base", "dataset", "synthesis", "name", "place"),
        {"data": DATA},
    ),
    "train": Verb("Fine-tune the base on one setting's dataset.", (*TRAINED, "name", "place")),
    "serve": Verb(
        "Serve checkpoints to OpenAI clients, all on one warm engine.",
        ("prompt", "decoder", "place"),
        {"checkpoints": Option("Hugging Face folders, or runs of them.", many=True)},
        Words("CHECKPOINT", "More checkpoints, after --checkpoints.", parameter="checkpoints"),
    ),
    "plan": Verb(
        "Show what fine-tuning takes: shapes, steps, memory.",
        ("task", "base", "dataset", "sft", "plan", "place"),
    ),
    "sample": Verb("Sample one checkpoint on the held-out problems.", (*SAMPLED, "name", "place")),
    "evaluate": Verb(
        "Sample and score one checkpoint against the base.",
        (*TRAINED, "checkpoint", "interpolation", "decoder", "eval", "name", "place"),
    ),
    "compare": Verb(
        "Sample two checkpoints, score and compare them.",
        ("base", "checkpoint", "data", "task", "prompt", "decoder", "eval", "name", "place"),
        PAIR,
    ),
    "interpolate": Verb(
        "Write checkpoints between two others (WiSE-FT).",
        ("base", "checkpoint", "interpolation", "place"),
        {
            "base": Option("The earlier checkpoint: a Hugging Face folder.", "base"),
            "tuned": Option("The later one.", "checkpoint"),
        },
        Words(
            "ALPHA",
            "Values of alpha, from 0 (the base) to 1 (the tuned model), e.g. 0.25 0.5.",
            setting="sweep.interpolation",
        ),
    ),
    "coverage": Verb(
        "pass@k of samples that lm-evaluation-harness wrote.",
        ("task", "eval", "name", "place"),
        {
            "samples": Option("Samples of a model: samples_*.jsonl, or their folder.", many=True),
            "base": Option("Those of the model before fine-tuning.", many=True),
        },
    ),
    "export": Verb(
        "Write samples and results as lm-evaluation-harness does.",
        (*SWEPT, "checkpoint", "data"),
        PAIR,
    ),
    "why": Verb(
        "Show the settings in which two results differ.",
        ("place",),
        words=Words(
            "RESULT",
            "One or two results: fingerprints, the beginning of one, or folders.",
            parameter="results",
        ),
    ),
}


def sorted_out(
    verb: Verb, arguments: Sequence[str], options: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """The overrides of settings, and what the job takes as its own parameters."""
    overrides = [one for one in arguments if "=" in one]
    words = [one for one in arguments if "=" not in one]
    own: dict[str, Any] = {}
    for name, value in options.items():
        if not value:
            continue
        setting = verb.options[name].setting
        if setting:
            overrides.append(f"{setting}={json.dumps(str(value))}")
        else:
            own[name] = list(value) if verb.options[name].many else value
    if verb.words is None:
        overrides += words  # refused as settings without a value
    elif words and verb.words.setting:
        overrides.insert(0, f"{verb.words.setting}=[{','.join(words)}]")
    elif words and verb.words.parameter:
        own.setdefault(verb.words.parameter, []).extend(Path(word) for word in words)
    return overrides, own
