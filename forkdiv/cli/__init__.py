"""One grammar for every verb: `forkdiv VERB --config FILE key=value …`, or `python -m jobs.VERB …`.

Heavy imports come after parsing, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forkdiv.cli import help_texts
from forkdiv.cli.failures import one_line
from forkdiv.cli.text_encoding import use_utf8
from forkdiv.cli.verbs import VERBS, Option, Verb, sorted_out
from forkdiv.core.errors import refuse

if TYPE_CHECKING:
    from forkdiv.core.config.study import StudyConfig
    from forkdiv.core.config.written import Written

CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Measure, locate and repair the loss of coverage that fine-tuning causes.\n\n"
    "Start with [bold]forkdiv configs[/bold], then [bold]forkdiv study --config quickstart[/bold].",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings=CONTEXT,
)


def main() -> None:
    """The console script `forkdiv`."""
    _call(app)


def run_job(verb: str) -> None:
    """What `python -m jobs.VERB` runs."""
    single = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, context_settings=CONTEXT
    )
    _add(single, verb)
    _call(single)


def _call(commands: typer.Typer) -> None:
    """Runs the command line; what fails outside a command ends with one line too."""
    use_utf8()
    status: str | int | None = 0
    try:
        with one_line():
            try:
                commands()
            except SystemExit as ended:  # typer ends every command with it
                status = ended.code
    except typer.Exit as failed:
        status = failed.exit_code
    sys.exit(status)


def _settings_keys(incomplete: str) -> list[str]:
    """What a shell offers for an argument: `sft.epochs=` and the like."""
    from forkdiv.cli.listing import settings

    return [f"{one.key}=" for one in settings() if one.key.startswith(incomplete)]


def _config_names(incomplete: str) -> list[str]:
    """What a shell offers for --config; where none fits, the shell offers files."""
    from forkdiv.core.config import shipped

    return [name for name in shipped.configs() if name.startswith(incomplete)]


def _path(text: str) -> str:
    """Reads the value of an option. It stays a text: a Path would drop the `./` that tells a path
    from a name on the Hugging Face Hub, and Path("") would be the current folder."""
    if not text.strip():
        raise refuse(
            "an option has an empty value",
            "'' (is a variable not set?)",
            "a path or a name",
            "write the value, or leave the option out",
        )
    return text


def _config_path(text: str) -> Path:
    return Path(_path(text))


Config = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A named config (`forkdiv configs` lists them) or a YAML file of settings.",
        parser=_config_path,
        autocompletion=_config_names,
    ),
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Show where in the code an error was raised.")
]
SETTINGS = "Settings as key=value, such as {example}; they override the config file."


def _add(to: typer.Typer, name: str) -> None:
    verb = VERBS[name]

    def command(config: Config = None, traceback: Traceback = False, **given: Any) -> None:
        with one_line(traceback):
            status = _run(name, config, given.pop("arguments") or [], given)
            if status:
                raise typer.Exit(status)

    command.__signature__ = _signature(command, verb)  # type: ignore[attr-defined]
    to.command(name, help=help_texts.of(name), short_help=verb.about)(command)


def _signature(command: Callable[..., None], verb: Verb) -> inspect.Signature:
    """The command's parameters with the verb's own: typer reads there what to offer."""
    *plain, _ = inspect.signature(command, eval_str=True).parameters.values()
    words = verb.words
    metavar = f"{words.metavar}|key=value" if words else "key=value"
    settings = SETTINGS.format(example=verb.example)
    about = f"{words.metavar}: {words.about} {settings}" if words else settings
    argument = typer.Argument(metavar=metavar, help=about, autocompletion=_settings_keys)
    own = [_parameter("arguments", list[str] | None, argument)]
    for name, option in verb.options.items():
        own.append(_own_parameter(name, option))
    return inspect.Signature([*plain, *own])


def _own_parameter(name: str, option: Option) -> inspect.Parameter:
    spelling = f"--{name.rstrip('_').replace('_', '-')}"  # from_: Python reserves `from`
    if option.flag:
        return _parameter(name, bool | None, typer.Option(spelling, help=_help(option)))
    kind: Any = list[str] | None if option.many else str | None
    if option.text:
        how = typer.Option(spelling, help=_help(option), metavar=option.text)
    else:
        how = typer.Option(spelling, help=_help(option), parser=_path, metavar="PATH")
    return _parameter(name, kind, how)


def _parameter(name: str, kind: Any, how: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[kind, how])


def _help(option: Option) -> str:
    return f"{option.about} The same as {option.setting}=…" if option.setting else option.about


def _run(name: str, config: Path | None, arguments: list[str], options: Mapping[str, Any]) -> int:
    """Runs the job; returns the exit status that it asks for."""
    from forkdiv.core.config.load import load
    from forkdiv.terminal import quiet_libraries, say
    from tuning import benchmark_settings, by_name, own_dtype, stored_paths

    quiet_libraries()
    verb = VERBS[name]
    overrides, own = sorted_out(verb, arguments, options)
    if verb.forwards:
        return int(_job(name).run(*_written(config, overrides, own), **own) or 0)
    study = load(config, overrides)
    # these infer the prompt template of two checkpoints, and later what follows from it
    compares = name == "compare" or (name == "export" and study.checkpoint is not None)
    study = benchmark_settings.with_source(study, name, verb.reads, compares)
    study = by_name.resolve(study, name, verb.reads, say)
    stored_paths.download(study, others=own.values())
    if not compares:
        study = benchmark_settings.resolve(study)
    study, inferred = own_dtype.resolve(study)
    if shown := [line for line in inferred if line.partition(".")[0] in verb.reads]:
        say(f"{', '.join(shown)} (the number format of the base){own_dtype.hint(study)}")
    return int(_job(name).run(study, **own) or 0)


def _job(name: str) -> Any:
    return importlib.import_module(f"jobs.{name}")


def _written(
    config: Path | None, overrides: list[str], own: dict[str, Any]
) -> tuple[StudyConfig, Written]:
    """Returns the settings, and what was written of them, for a verb that forwards them; takes the
    config from the arguments of `own`."""
    from forkdiv.core.config.load import load
    from forkdiv.core.config.written import Written

    studies = own.pop("studies", [])
    if len(studies) + (config is not None) > 1:
        raise refuse(
            "one job runs one study",
            ", ".join(map(str, [*([config] if config else []), *studies])),
            "one STUDY, or --config",
            "submit the others with a command each",
        )
    config = config or (studies[0] if studies else None)
    return load(config, overrides), Written(config, tuple(overrides))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"forkdiv {version('forkdiv')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


for _name in VERBS:
    _add(app, _name)


def _section_names(incomplete: str) -> list[str]:
    from forkdiv.cli.listing import sections

    return [name for name in sections() if name.startswith(incomplete)]


@app.command("settings", help=help_texts.SETTINGS, short_help="List every setting.")
def _settings(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]",
            help="A section (sft), a part of one (place.engine), a task (task.file) or a setting "
            "(sft.epochs). Without it: every setting.",
            autocompletion=_section_names,
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="text, markdown or json.")] = "text",
) -> None:
    from forkdiv.cli import listing

    with one_line():
        print(listing.show_settings(section, format))


@app.command(
    "benchmarks", help=help_texts.BENCHMARKS, short_help="List the benchmarks known by name."
)
def _benchmarks() -> None:
    from forkdiv.cli import listing

    with one_line():
        print(listing.show_benchmarks())


@app.command("configs", help=help_texts.CONFIGS, short_help="List the named configs.")
def _configs() -> None:
    from forkdiv.cli import listing

    with one_line():
        print(listing.show_configs())
