"""The verbs: what each is for, what it takes, and which sections of the settings it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse


@dataclass(frozen=True)
class Option:
    """An option of one verb. It sets `setting`, or is passed to the job under its own name if
    `setting` is None. A `flag` takes no value; any other option takes a path, which `kind` reads,
    or the text that `text` describes in the help, such as NUMBER."""

    about: str
    setting: str | None = None
    many: bool = False
    flag: bool = False
    text: str = ""
    kind: Callable[[str], Path] = Path


@dataclass(frozen=True)
class Words:
    """The meaning of arguments without `=`: values of `setting`, or of the job's parameter
    `parameter` (read by `kind`), so that a shell pattern such as `DIR/*` can be used."""

    metavar: str
    about: str
    setting: str | None = None
    parameter: str | None = None
    kind: Callable[[str], Path] = Path


@dataclass(frozen=True)
class Verb:
    """`reads` are sections of the settings, as `forkdiv settings SECTION` lists them; `example` is
    one setting of them with a value, for the help. A verb that `forwards` passes its arguments to a
    job on a cluster: it gets them as they were written, and nothing is looked up here."""

    about: str
    reads: tuple[str, ...]
    example: str
    options: Mapping[str, Option] = field(default_factory=dict)
    words: Words | None = None
    forwards: bool = False


def _checkpoint(text: str) -> Path:
    """Returns the path of a checkpoint, or a name on the hub as a relative path."""
    from forkdiv.core.config.shipped import checkpoint_path

    path = checkpoint_path(text)
    assert isinstance(path, Path)
    return path


DATA = Option(
    "Your own data file, a dataset folder that forkdiv wrote, or a dataset on the Hugging Face Hub "
    "(org/dataset:split).",
    "data",
)
AS = Option(
    "The benchmark in whose form the data is; `forkdiv benchmarks` lists them.",
    "task.benchmark",
    text="NAME",
)
PAIR = {
    "base": Option(
        "The model before fine-tuning: a Hugging Face folder, or a model on the Hugging Face Hub "
        "(org/name or org/name@revision).",
        "base",
    ),
    "tuned": Option(
        "The model after fine-tuning, as --base, a LoRA adapter that PEFT saved, or a run folder "
        "with several checkpoints.",
        "checkpoint",
    ),
    "checkpoints": Option(
        "With a run folder: a pattern of the checkpoints that are measured, such as 'step-*'.",
        "checkpoint_pattern",
        text="PATTERN",
    ),
    "data": Option(
        "Problems with their answers: JSONL, JSON, Parquet, CSV, a dataset on the Hugging Face Hub "
        "(org/dataset:split), or the name of a benchmark.",
        "data",
    ),
    "as_": AS,
}

FAIL_IF = Option(
    "End with status 3 if the limits show that this holds, such as 'pass@64 < base - 0.02', and "
    "with 4 if they cannot decide it. Can be repeated.",
    many=True,
    text="CONDITION",
)

DRY_RUN = {
    "dry_run": Option(
        "Show the trials, which results exist already, and the estimated hours; start nothing.",
        flag=True,
    )
}

TRAINED = ("task", "prompt", "base", "pretrain", "dataset", "synthesis", "sft")
TUNED = ("checkpoint", "adapter_base")
WHICH = ("base", "checkpoint", "checkpoint_pattern", "adapter_base")
SAMPLED = ("task", "prompt", "base", "checkpoint", "adapter_base", "decoder", "eval")
SWEPT = (
    *TRAINED,
    "learnability",
    "interpolation",
    "decoder",
    "decoders",
    "eval",
    "sweep",
    "name",
    "place",
)

ADDRESS = Option(
    "The address of the cluster's dashboard, such as http://127.0.0.1:8265.", text="URL"
)

VERBS: dict[str, Verb] = {
    "study": Verb(
        "Run a whole study: the sweep, its table, its report.", SWEPT, "sft.epochs=8", DRY_RUN
    ),
    "sweep": Verb("Run every trial of the grid.", SWEPT, "sweep.seed=[0,1,2]", DRY_RUN),
    "report": Verb(
        "Write the report of a finished study again.",
        ("name", "place"),
        "name=quickstart",
        {"beside": Option("The result folder of a further study, to compare with.", many=True)},
    ),
    "pretrain": Verb(
        "Build a base model, trained on random walks.",
        ("task", "pretrain", "name", "place"),
        "pretrain.walks=4",
    ),
    "dataset": Verb(
        "Write the SFT dataset of one setting and show its card.",
        ("task", "dataset", "place"),
        "dataset.examples=400",
    ),
    "audit": Verb(
        "Find the decision points of a dataset.",
        ("data", "task", "prompt", "base", "dataset", "audit", "name", "place"),
        "audit.limit=1000",
        {"data": DATA},
    ),
    "synthesize": Verb(
        "Add solutions to a dataset at its under-covered forks.",
        ("data", "task", "prompt", "base", "dataset", "synthesis", "name", "place"),
        "synthesis.budget=2000",
        {"data": DATA},
    ),
    "learnability": Verb(
        "Find out which tokens of a dataset can be learned as a rule.",
        (*TRAINED, "learnability", "audit", "name", "place"),
        "learnability.runs=4",
    ),
    "train": Verb(
        "Fine-tune the base on one dataset.",
        (*TRAINED, "learnability", "name", "place"),
        "sft.epochs=8",
    ),
    "rl": Verb(
        "Train a checkpoint by reinforcement learning (GRPO).",
        (
            "checkpoint",
            "adapter_base",
            "base",
            "task",
            "prompt",
            "dataset",
            "rl",
            "decoder",
            "name",
            "place",
        ),
        "rl.iterations=200",
    ),
    "serve": Verb(
        "Serve checkpoints to OpenAI clients from one vLLM engine.",
        ("adapter_base", "prompt", "decoder", "place"),
        "place.http.port=8001",
        {
            "checkpoints": Option(
                "A Hugging Face folder, a run folder with several checkpoints, or a model on the "
                "Hugging Face Hub (org/name).",
                many=True,
                kind=_checkpoint,
            )
        },
        Words(
            "CHECKPOINT",
            "More checkpoints, after --checkpoints.",
            parameter="checkpoints",
            kind=_checkpoint,
        ),
    ),
    "plan": Verb(
        "Estimate parameters, steps and GPU memory of fine-tuning.",
        ("task", "base", "dataset", "sft", "plan", "place"),
        "place.zero_stage=2",
    ),
    "sample": Verb(
        "Sample one checkpoint on the held-out problems.",
        (*SAMPLED, "name", "place"),
        "eval.samples=128",
    ),
    "evaluate": Verb(
        "Sample and score one checkpoint against the base.",
        (*TRAINED, "learnability", *TUNED, "interpolation", "decoder", "eval", "name", "place"),
        "decoder.temperature=0.7",
    ),
    "compare": Verb(
        "Sample, score and compare two checkpoints.",
        (*WHICH, "data", "task", "prompt", "decoder", "eval", "watch", "name", "place"),
        "eval.samples=128",
        {
            **PAIR,
            "search": Option(
                "Measure only the checkpoints that it takes to find the largest pass@k of the run.",
                flag=True,
            ),
            "watch": Option(
                "The folder of a run that is still training, in place of --tuned: each checkpoint "
                "is measured as it appears."
            ),
            "fail_if": FAIL_IF,
        },
    ),
    "interpolate": Verb(
        "Average the weights of two checkpoints (WiSE-FT).",
        ("base", "checkpoint", "adapter_base", "interpolation", "place"),
        "place.root=/shared/runs",
        {
            "base": Option("The earlier checkpoint: a Hugging Face folder, or org/name.", "base"),
            "tuned": Option(
                "The later checkpoint: a Hugging Face folder, or org/name.", "checkpoint"
            ),
        },
        Words(
            "ALPHA",
            "Values of alpha, from 0 (the base) to 1 (the tuned model), e.g. 0.25 0.5.",
            setting="sweep.interpolation",
        ),
    ),
    "coverage": Verb(
        "Compute pass@k of samples that lm-evaluation-harness wrote.",
        ("task", "eval", "name", "place"),
        "eval.k=[1,8,64]",
        {
            "samples": Option(
                "Samples of the model: a samples_*.jsonl file or a folder of them. Repeat the "
                "option to merge several files of one task.",
                many=True,
            ),
            "base": Option(
                "Samples of the base model (before fine-tuning), in the same form as --samples.",
                many=True,
            ),
            "fail_if": FAIL_IF,
        },
    ),
    "export": Verb(
        "Write samples and results as lm-evaluation-harness files.",
        (*SWEPT, "checkpoint", "checkpoint_pattern", "adapter_base", "data"),
        "eval.samples=128",
        PAIR,
    ),
    "power": Verb(
        "Compute how many problems and samples show a given loss.",
        ("power", "eval"),
        "power.correlation=0.9",
        {
            "k": Option("The k of pass@k.", "power.k", text="K"),
            "loss": Option("The loss of pass@k to be shown.", "power.loss", text="LOSS"),
            "power": Option("The probability of showing it.", "power.power", text="POWER"),
            "problems": Option("Numbers of problems.", "power.problems", text="N[,N]"),
            "samples": Option("Samples of each problem.", "power.samples", text="N[,N]"),
            "from_": Option(
                "The results of a finished comparison, whose problems are taken as an example.",
                "power.result",
            ),
        },
    ),
    "why": Verb(
        "Show the settings in which two results differ.",
        ("place",),
        "place.root=/shared/runs",
        words=Words(
            "RESULT",
            "One or two results, each as a fingerprint, its first characters, or a folder.",
            parameter="results",
        ),
    ),
    "track": Verb(
        "Show what MLflow has of a study, or send it the rest.",
        ("place",),
        "place.root=/shared/runs",
        {"send": Option("Send what MLflow does not have yet.", flag=True)},
        Words("STUDY", "Names of studies; all of place.root by default.", parameter="studies"),
    ),
    "store": Verb(
        "List, check and clean the store of results.",
        ("place",),
        "place.root=/shared/runs",
        {"remove": Option("With gc: remove what it lists.", flag=True)},
        Words("ACTION", "ls, verify or gc.", parameter="actions"),
    ),
    "submit": Verb(
        "Run a study as a job on a Ray cluster.",
        SWEPT,
        "place.root=/shared/runs",
        {
            "address": ADDRESS,
            "follow": Option("Follow a job that was submitted before.", text="JOB"),
        },
        Words("STUDY", "The config of the study, as --config.", parameter="studies"),
        forwards=True,
    ),
    "doctor": Verb(
        "Check the hosts of a Ray cluster.",
        ("place",),
        "place.root=/shared/runs",
        {"address": ADDRESS},
        forwards=True,
    ),
}


def sorted_out(
    verb: Verb, arguments: Sequence[str], options: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """The overrides of settings, and what the job takes as its own parameters."""
    overrides = [one for one in arguments if "=" in one]
    words = [one for one in arguments if "=" not in one]
    if "" in map(str.strip, words):
        raise refuse(
            "an argument is empty",
            "'' (is a variable not set?)",
            "key=value" + (f", or {verb.words.metavar}" if verb.words else ""),
            "write the value, or leave the argument out",
        )
    own: dict[str, Any] = {}
    for name, value in options.items():
        option = verb.options[name]
        if isinstance(value, str) and not value.strip():
            raise refuse(
                f"--{name.rstrip('_')} has an empty value",
                "'' (is a variable not set?)",
                option.text or "a path or a name",
                "write the value, or leave the option out",
            )
        if not value:
            continue
        if option.setting:
            overrides.append(f"{option.setting}={json.dumps(str(value), ensure_ascii=False)}")
        else:
            own[name] = _own_value(option, value)
    if verb.words is None:
        overrides += words  # refused as settings without a value
    elif words and verb.words.setting:
        overrides.insert(0, f"{verb.words.setting}=[{','.join(words)}]")
    elif words and verb.words.parameter:
        own.setdefault(verb.words.parameter, []).extend(map(verb.words.kind, words))
    return overrides, own


def _own_value(option: Option, value: Any) -> Any:
    """Returns what a job gets for an option of its own: texts as they are, paths as paths."""
    if option.flag:
        return value
    if option.text:
        return list(value) if option.many else value
    return [option.kind(text) for text in value] if option.many else option.kind(value)
