"""One grammar for every verb: `forkdiv VERB --config FILE key=value …`, or `python -m jobs.VERB …`.

Heavy imports come after parsing, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from forkdiv.errors import InvalidResult, UserError

DATA_VERBS = ("audit", "synthesize")  # those that take --data FILE

VERBS = {
    "study": "Run a whole study: the sweep, its table, its report.",
    "sweep": "Run every trial of the grid (fork density × temperature × seed).",
    "report": "Write the report of a finished study again.",
    "pretrain": "Build a base model from random walks.",
    "dataset": "Write the SFT dataset of one setting and show its card.",
    "audit": "Find the decision points of a dataset and what it shows of them.",
    "synthesize": "Add solutions to a dataset where its forks are under-covered.",
    "train": "Fine-tune the base on one setting's dataset.",
    "sample": "Sample one checkpoint on the held-out problems.",
    "evaluate": "Sample and score one checkpoint against the base.",
}

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
Data = Annotated[
    Path | None,
    typer.Option(help="A file of your own, or a dataset folder of forkdiv's; short for data=FILE."),
]


def _add(to: typer.Typer, verb: str, about: str) -> None:
    def plain(
        overrides: Overrides = None, config: Config = None, traceback: Traceback = False
    ) -> None:
        _run(verb, config, overrides or [], traceback)

    def with_data(
        overrides: Overrides = None,
        data: Data = None,
        config: Config = None,
        traceback: Traceback = False,
    ) -> None:
        named = [f"data={json.dumps(str(data))}"] if data else []
        _run(verb, config, [*(overrides or []), *named], traceback)

    to.command(verb, help=about)(with_data if verb in DATA_VERBS else plain)


def _run(verb: str, config: Path | None, overrides: list[str], traceback: bool) -> None:
    from forkdiv.config import load
    from forkdiv.terminal import quiet_libraries

    quiet_libraries()
    try:
        study = load(config, overrides)
        job: Any = importlib.import_module(f"jobs.{verb}")
        job.run(study)
    except UserError as error:
        _fail(error, 2, traceback)
    except InvalidResult as error:
        _fail(error, 1, traceback)


def _fail(error: Exception, status: int, traceback: bool) -> None:
    if traceback:
        raise error
    print(f"forkdiv: {' '.join(str(error).split())}", file=sys.stderr)
    raise typer.Exit(status)


for _verb, _about in VERBS.items():
    _add(app, _verb, _about)
