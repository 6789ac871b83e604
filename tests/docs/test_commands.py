"""Every command in README.md and docs/ parses; the cheap ones run, each in a folder of its own.

Those that start Ray are run by tests/docs/test_commands_soak.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from forkdiv.cli import app
from forkdiv.cli.verbs import VERBS
from forkdiv.core.config.load import load
from tests.docs import workspace
from tests.docs.pages import CODE, NAMES, ROOT, Block, all_blocks, blocks
from tuning import by_name

BLOCKS = all_blocks()
COMMANDS = [block for block in BLOCKS if block.language == "bash"]
TO_RUN = [block for block in BLOCKS if block.how == "run"]

# Programs that are not forkdiv's: their arguments are not checked here.
OTHERS = {
    "[",
    "cd",
    "curl",
    "docker",
    "export",
    "kubectl",
    "lm_eval",
    "mlflow",
    "pip",
    "printf",
    "sbatch",
    "set",
    "ssh",
    ".",
}
RAY = {"get-auth-token", "up", "down", "dashboard", "job"}


def named(block: Block) -> str:
    return block.id


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_a_block_of_code_says_how_it_is_tested(block: Block) -> None:
    if block.language in CODE:
        assert block.how is not None, f"{block.id}: no marker stands before it; see pages.py"
    if block.how == "not run":
        assert len(block.detail.split()) >= 3, f"{block.id}: why is it not run?"


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_a_file_that_a_marker_names_exists(block: Block) -> None:
    if block.how == "not run":
        for path in re.findall(r"\b(?:tests|docs)/[\w/.-]+\w", block.detail):
            assert (ROOT / path).exists(), f"{block.id} names {path}"


@pytest.mark.parametrize("block", COMMANDS, ids=named)
def test_every_command_of_a_block_parses(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verbs, options, settings and named configs exist, whether or not the block is run."""
    monkeypatch.chdir(workspace.write_files(tmp_path, block.page))
    monkeypatch.syspath_prepend(str(tmp_path))  # a page's own modules, as `PYTHONPATH=.` finds them
    for command in workspace.commands(block):
        check(command, monkeypatch)


def check(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises AssertionError for a command that could not work."""
    words = shlex.split(command.removesuffix("&"))
    while "=" in words[0]:  # FORKDIV_API_KEY=… forkdiv serve
        words = words[1:]
    program, *arguments = words
    if program == "forkdiv":
        check_forkdiv(arguments, monkeypatch)
    elif program == "make":
        check_make(arguments)
    elif program == "python":
        check_module(arguments, monkeypatch)
    elif program == "ray":
        assert arguments[0] in RAY, command
        if "--" in arguments:
            check(shlex.join(arguments[arguments.index("--") + 1 :]), monkeypatch)
    else:
        assert program in OTHERS, f"{program} of {command!r} is not known to this test"


def check_forkdiv(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line reads it, with a job that does nothing in place of the verb's own."""

    class Job:
        run = staticmethod(lambda *args, **options: None)

    if arguments == ["--install-completion"]:
        # not even here: it writes to the startup file of whoever runs the tests
        assert any("--install-completion" in option.opts for option in get_command(app).params)
        return
    real = importlib.import_module

    def without_jobs(name: str, package: str | None = None) -> Any:
        return Job if name.startswith("jobs.") else real(name, package)

    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", without_jobs)
        # models that a page speaks of are not here, and would be looked for on the hub
        patch.setattr(by_name, "resolve", lambda study, *_: study)
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"forkdiv {shlex.join(arguments)}: {done.output} {done.exception}"


def check_make(arguments: list[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [argument for argument in arguments if "=" not in argument]
    assert named
    assert set(named) <= targets


def check_module(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m jobs.VERB …` is `forkdiv VERB …`; any other module or script must be there."""
    option, *rest = arguments
    if option.endswith(".py"):
        assert (ROOT / option).is_file(), option
        return
    assert option == "-m"
    module, *rest = rest
    package, _, verb = module.partition(".")
    if package == "jobs":
        monkeypatch.chdir(ROOT)  # jobs are submitted from a checkout
        check_forkdiv([verb, *rest], monkeypatch)
        return
    assert importlib.util.find_spec(module) is not None, module
    for name in rest:
        assert importlib.util.find_spec(f"{module}.{name}") is not None, f"{module} {name}"


@pytest.mark.stack  # no Ray, but most of a minute: left out of `make test-unit`
@pytest.mark.parametrize("block", TO_RUN, ids=named)
def test_a_block_that_is_marked_run_does(block: Block, tmp_path: Path) -> None:
    done = workspace.run(block, workspace.lay_out(tmp_path, block.page), timeout=120)
    assert done.returncode == 0, f"{block.id}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", NAMES)
def test_settings_files_that_a_page_shows_are_valid(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for block in blocks(page):
        if block.language == "yaml":
            load(_written(block, tmp_path))


def _written(block: Block, folder: Path) -> Path:
    assert isinstance(yaml.safe_load(block.text), dict)
    path = folder / f"{block.line}.yaml"
    path.write_text(block.text)
    return path


def test_the_pages_have_blocks_of_every_kind() -> None:
    """Else a change of the markers' form could leave all of them out."""
    assert {block.how for block in BLOCKS} >= {"run", "soak", "not run", "file"}
    assert len(COMMANDS) > 40
    shown = {
        word
        for block in COMMANDS
        for command in block.commands()
        for word in shlex.split(command)[:2]
    }
    assert set(VERBS) - {"sweep"} <= shown
    assert sys.executable
