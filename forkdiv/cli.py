"""One grammar for every verb: `forkdiv VERB --config FILE key=value …`, or `python -m jobs.VERB …`.

Heavy imports come after parsing, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from forkdiv.core.errors import InvalidResult, UserError

VERBS = {
    "study": "Run a whole study: the sweep, its table, its report.",
    "sweep": "Run every trial of the grid.",
    "report": "Write the report of a finished study again.",
    "pretrain": "Build a base model from random walks.",
    "dataset": "Write the SFT dataset of one setting and show its card.",
    "audit": "Find the decision points of a dataset.",
    "synthesize": "Add solutions to a dataset where its forks are under-covered.",
    "train": "Fine-tune the base on one setting's dataset.",
    "serve": "Serve checkpoints to OpenAI clients, all on one warm engine.",
    "plan": "Say what fine-tuning takes: shapes, steps, memory.",
    "sample": "Sample one checkpoint on the held-out problems.",
    "evaluate": "Sample and score one checkpoint against the base.",
    "compare": "Sample two checkpoints, score and compare them.",
    "interpolate": "Write checkpoints between two others (WiSE-FT).",
    "coverage": "pass@k of samples that lm-evaluation-harness wrote.",
    "export": "Write samples and results as lm-evaluation-harness does.",
}


@dataclass(frozen=True)
class Option:
    """An option of one verb. It is short for the setting it names, or is handed to the job
    under its own name where it names none. `rest`: words that set nothing are more of its values,
    so that a shell's `DIR/*` can follow it."""

    about: str
    setting: str | None = None
    many: bool = False
    rest: bool = False


DATA = Option("A file of your own, or a dataset folder of forkdiv's.", "data")
PAIR = {
    "base": Option("The model before fine-tuning: a Hugging Face folder.", "base"),
    "tuned": Option("The model after it, or a folder of saved checkpoints.", "checkpoint"),
    "data": Option("Problems with their answers: JSONL, JSON, Parquet, CSV.", "data"),
}

OPTIONS: dict[str, dict[str, Option]] = {
    "report": {
        "beside": Option("The result folder of another study, to compare with.", many=True),
    },
    "audit": {"data": DATA},
    "synthesize": {"data": DATA},
    "compare": PAIR,
    "export": PAIR,
    "serve": {
        "checkpoints": Option("Hugging Face folders, or runs of them.", many=True, rest=True),
    },
    "interpolate": {
        "base": Option("The earlier checkpoint: a Hugging Face folder.", "base"),
        "tuned": Option("The later one.", "checkpoint"),
    },
    "coverage": {
        "samples": Option("Samples of a model: samples_*.jsonl, or their folder.", many=True),
        "base": Option("Those of the model before fine-tuning.", many=True),
    },
}

# The setting that a verb's plain arguments are the values of, where it takes any.
PLAIN = {"interpolate": "sweep.interpolation"}

app = typer.Typer(
    help="Measure, locate and repair the loss of coverage that fine-tuning causes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script `forkdiv`."""
    app()


def run_job(verb: str) -> None:
    """What `python -m jobs.VERB` runs."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    _add(single, verb, VERBS[verb])
    single()


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="key=value", help="Settings, e.g. sft.epochs=8 name=mine."),
]
Config = Annotated[Path | None, typer.Option(help="A YAML file of settings; see jobs/configs/.")]
Traceback = Annotated[bool, typer.Option(help="Show where an error arose.")]


def _add(to: typer.Typer, verb: str, about: str) -> None:
    def command(
        overrides: Overrides = None,
        config: Config = None,
        traceback: Traceback = False,
        **options: Any,
    ) -> None:
        _run(verb, config, overrides or [], traceback, options)

    command.__signature__ = _signature(command, OPTIONS.get(verb, {}))  # type: ignore[attr-defined]
    to.command(verb, help=about)(command)


def _signature(command: Callable[..., None], options: Mapping[str, Option]) -> inspect.Signature:
    """The command's parameters with the verb's own options: typer reads what to offer there."""
    *plain, _ = inspect.signature(command, eval_str=True).parameters.values()
    own = []
    for name, option in options.items():
        kind: Any = list[Path] | None if option.many else Path | None
        annotated = Annotated[kind, typer.Option(f"--{name}", help=_help(option))]
        keyword = inspect.Parameter.KEYWORD_ONLY
        own.append(inspect.Parameter(name, keyword, default=None, annotation=annotated))
    return inspect.Signature([*plain, *own])


def _help(option: Option) -> str:
    return f"{option.about} Short for {option.setting}=…" if option.setting else option.about


def _run(
    verb: str,
    config: Path | None,
    overrides: list[str],
    traceback: bool,
    options: Mapping[str, Any],
) -> None:
    from forkdiv.core.config.load import load
    from forkdiv.terminal import quiet_libraries

    quiet_libraries()
    importlib.import_module("forkdiv.tasks.registry")  # tasks register their settings there
    known = OPTIONS.get(verb, {})
    given = {name: value for name, value in options.items() if value}
    settings = {known[name].setting: str(value) for name, value in given.items()}
    named = [f"{key}={json.dumps(value)}" for key, value in settings.items() if key]
    own = {name: value for name, value in given.items() if known[name].setting is None}
    for name in own:
        if known[name].rest:
            own[name] += [Path(word) for word in overrides if "=" not in word]
            overrides = [word for word in overrides if "=" in word]
    try:
        study = load(config, [*_named(verb, overrides), *named])
        job: Any = importlib.import_module(f"jobs.{verb}")
        job.run(study, **own)
    except UserError as error:
        _fail(error, 2, traceback)
    except InvalidResult as error:
        _fail(error, 1, traceback)


def _named(verb: str, arguments: list[str]) -> list[str]:
    """The arguments with plain ones gathered under the setting that the verb takes them for."""
    plain = [one for one in arguments if "=" not in one]
    if verb not in PLAIN or not plain:
        return arguments
    return [f"{PLAIN[verb]}=[{','.join(plain)}]", *(one for one in arguments if "=" in one)]


def _fail(error: Exception, status: int, traceback: bool) -> None:
    if traceback:
        raise error
    print(f"forkdiv: {' '.join(str(error).split())}", file=sys.stderr)
    raise typer.Exit(status)


for _verb, _about in VERBS.items():
    _add(app, _verb, _about)
