"""The command line: help at once, and one line for whatever is wrong with the input."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from forkdiv.cli import help_texts
from forkdiv.cli.verbs import VERBS
from forkdiv.core.config import reference
from forkdiv.core.config.load import load

ROOT = Path(__file__).parents[1]
BASE = ROOT / "forkdiv/models/base/graph-d3-l3"
HEAVY = {"torch", "ray", "mlflow", "vllm", "deepspeed", "transformers"}

Run = Callable[..., subprocess.CompletedProcess[str]]

# what the console script `forkdiv` runs
MAIN = "import sys; from forkdiv.cli import main; sys.exit(main())"

HELP = """
import sys
sys.argv = ["forkdiv", *sys.argv[1:]]
from forkdiv.cli import main
try:
    main()
finally:
    print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def study(tmp_path: Path) -> Run:
    """`python -m jobs.study` with an output folder of its own."""

    def run(*settings: str) -> subprocess.CompletedProcess[str]:
        place = [f"place.root={tmp_path / 'runs'}", "place.dashboard=false", f"base={BASE}"]
        return run_python("-m", "jobs.study", *place, *settings)

    return run


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("forkdiv: ")
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("sft.epoch=8", "did you mean epochs?"),
        ("decoder.max_new_tokens=4", "allowed: at least 5"),
        ("eval.problems=7", "allowed: a multiple of 2 (signed, unsigned)"),
        ("dataset.branch_coverage=2", "dataset.branch_coverage has no effect on this task"),
        ("sweep.structure=[data-level]", "sweep.structure has no effect on this task"),
        ("prompt.template=chat", "has no chat template"),
        ("base=/no/such/checkpoint", "the checkpoint does not exist: got /no/such/checkpoint"),
        ("base=graph-d3-l4", "or a shipped base: graph-d3-l3;"),
        ("place.root=/proc/forkdiv", "cannot be written: got /proc/forkdiv"),
        ("place.min_free_mib=1000000000000", "nearly full"),
    ],
)
def test_a_bad_setting_ends_with_one_line_and_status_2(
    study: Run, tmp_path: Path, setting: str, told: str
) -> None:
    assert told in refusal(study(setting))
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("sft.epochs=many", "sft.epochs: got 'many'"),
        ("task.degree=1", "task.degree: got 1"),
        ("eval.k=[128]", "k=128 needs at least that many samples, got samples=64"),
        ("decoder.temperature=-1", "decoder.temperature: got -1"),
        ("sft.batch_size=3", "multiples of place.workers=2"),
        ("epochs", "a setting must be key=value: got 'epochs'"),
    ],
)
def test_a_setting_that_no_study_can_have_ends_with_one_line_and_status_2(
    tmp_path: Path, setting: str, told: str
) -> None:
    done = run_python("-c", MAIN, "study", f"place.root={tmp_path}", setting)
    assert told in refusal(done)
    assert list(tmp_path.iterdir()) == []


def test_a_config_file_that_is_not_there_ends_with_one_line() -> None:
    done = run_python("-c", MAIN, "study", "--config", "/no/such.yaml")
    assert "the config cannot be read: got /no/such.yaml" in refusal(done)


def test_a_checkpoint_that_writes_no_text_is_refused(study: Run, tmp_path: Path) -> None:
    bert = tmp_path / "bert"
    shutil.copytree(BASE, bert)
    config = {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
    (bert / "config.json").write_text(json.dumps(config))
    told = refusal(study(f"base={bert}"))
    assert "is not a causal language model: got ['BertForMaskedLM']" in told


def test_a_port_in_use_is_refused(study: Run) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        told = refusal(study("place.dashboard=true", f"place.dashboard_port={port}"))
    assert f"got {port};" in told


def test_a_report_without_a_study_is_refused(tmp_path: Path) -> None:
    done = run_python("-m", "jobs.report", f"place.root={tmp_path}", "name=never")
    told = refusal(done)
    assert "there is no finished study with this name" in told and "forkdiv study" in told
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_and_the_module_refuse_alike(tmp_path: Path) -> None:
    settings = [f"place.root={tmp_path}", "name=never"]
    module = run_python("-m", "jobs.report", *settings)
    script = run_python("-c", MAIN, "report", *settings)
    assert script.returncode == module.returncode == 2
    assert script.stderr == module.stderr


# one verb whose job raises; the traceback file goes to TMPDIR
RAISES = """
import sys
from forkdiv import cli
from jobs import report
from forkdiv.core.errors import InvalidResult, UserError
def run(study, **own):
    {statement}
report.run = run
sys.argv = ["forkdiv", "report", *sys.argv[1:]]
cli.main()
"""


def run_raising(statement: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RAISES.format(statement=statement), *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("sys.exit(0)", "SystemExit: 0"),
        ("{}['key']", "KeyError: 'key'"),
        ("raise RuntimeError('a' * 10**6)", "RuntimeError: aaa"),
        ("open('/no/such/file')", "FileNotFoundError"),
    ],
)
def test_a_bug_ends_with_one_line_a_traceback_file_and_status_70(
    tmp_path: Path, statement: str, what: str
) -> None:
    done = run_raising(statement, tmp_path, "name=mine")
    assert (done.returncode, done.stdout) == (70, "")
    (line,) = done.stderr.splitlines()
    (file,) = tmp_path.glob("forkdiv-traceback-*.txt")
    assert line.startswith("forkdiv: an unexpected error, which is a bug of forkdiv: ")
    assert what in line and str(file) in line and len(line) < 800
    text = file.read_text()
    assert "Traceback (most recent call last)" in text and "'name=mine'" in text


def test_a_bug_is_not_hidden_where_no_file_can_be_written(tmp_path: Path) -> None:
    script = "import tempfile\n" + RAISES.format(statement="1 / 0").replace(
        "cli.main()", "tempfile.tempdir = '/no/such/folder'\ncli.main()"
    )
    done = run_python("-c", script)
    assert done.returncode == 70
    assert "Traceback" in done.stderr and "the traceback is above" in done.stderr


@pytest.mark.parametrize(
    ("statement", "status", "what"),
    [
        ("raise InvalidResult('a cell')", 1, "a cell"),
        ("raise UserError('a setting')", 2, "a setting"),
        ("raise MemoryError('64 GiB')", 1, "memory of this machine is not enough (64 GiB)"),
        ("raise OSError(28, 'No space left on device', 'x')", 1, "the disk is full: writing x"),
        ("raise KeyboardInterrupt", 130, ""),
        (
            "import ray; raise ray.exceptions.RayActorError()",
            1,
            "a process of Ray failed (RayActor",
        ),
        (
            "import ray; raise ray.exceptions.OutOfMemoryError('running low on memory\\n' * 320)",
            1,
            "Ray's memory monitor ended it because the memory of the machine was nearly full",
        ),
    ],
)
def test_other_ends_keep_their_status_and_are_not_called_a_bug(
    tmp_path: Path, statement: str, status: int, what: str
) -> None:
    done = run_raising(statement, tmp_path)
    assert done.returncode == status, done.stderr
    assert what in done.stderr and len(done.stderr.splitlines()) <= 1
    assert len(list(tmp_path.glob("forkdiv-traceback-*"))) == ("Ray" in what)


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "--base", "", "--tuned", "x"),
        ("study", "--config", ""),
        ("study", "checkpoint="),
        ("why", ""),
        ("coverage", "--samples", " "),
    ],
)
def test_an_empty_argument_is_refused(arguments: tuple[str, ...]) -> None:
    assert "is a variable not set?" in refusal(run_python("-c", MAIN, *arguments))


def test_traceback_shows_where_an_error_arose(tmp_path: Path) -> None:
    done = run_python("-m", "jobs.report", "--traceback", f"place.root={tmp_path}", "name=never")
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "UserError" in done.stderr


def test_a_verb_does_what_it_says_and_ends_with_status_0(tmp_path: Path) -> None:
    settings = [f"place.root={tmp_path}", "dataset.examples=12", "dataset.fork_density=0.25"]
    done = run_python("-m", "jobs.dataset", *settings)
    assert (done.returncode, done.stderr) == (0, "")
    card, _, path = done.stdout.rpartition("dataset: ")
    assert json.loads(card)["by_subset_and_mode"] == {
        "signed/forward": 9,
        "unsigned/forward": 3,
    }
    assert Path(path.strip()).is_file()


def shown(*arguments: str, cwd: Path = ROOT, columns: int = 80) -> str:
    """What the command prints, on a terminal of so many columns."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    text, _, loaded = done.stdout.rpartition("LOADED")
    assert HEAVY.isdisjoint(loaded.split())
    return text


def test_help_names_every_verb_and_what_it_is_for() -> None:
    text = shown("--help")
    missing = [name for name, verb in VERBS.items() if f" {name} " not in text]
    assert missing == [] and all(verb.about in text for verb in VERBS.values())
    assert all(name in text for name in ("settings", "configs", "--version"))


def test_the_version_is_that_of_the_package() -> None:
    assert shown("--version") == f"forkdiv {version('forkdiv')}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_examples_whole_and_the_settings_that_are_read(verb: str) -> None:
    text = shown(verb, "--help")
    examples = help_texts.examples(verb)
    assert 1 < len(examples) < 6
    assert [one for one in examples if f" {one} " not in text] == []
    assert VERBS[verb].about in text
    assert max(map(len, text.splitlines())) <= 80
    reads = " ".join(text.split()).partition("Settings: ")[2].partition(". Show")[0]
    assert reads == ", ".join(VERBS[verb].reads)
    outside_boxes = " ".join(text.replace("│", " ").split())
    assert f"Settings as key=value, such as {VERBS[verb].example};" in outside_boxes


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_setting_in_help_is_one_that_the_verb_reads(verb: str) -> None:
    example = VERBS[verb].example
    load(None, [example])
    assert example.partition("=")[0].partition(".")[0] in VERBS[verb].reads


def test_the_sections_that_a_verb_reads_can_be_listed() -> None:
    for name in {one for verb in VERBS.values() for one in verb.reads}:
        assert reference.select_sections(name)


def test_help_of_interpolate_shows_where_its_values_go() -> None:
    text = shown("interpolate", "--help")
    assert "[ALPHA|key=value]..." in text and "0 is the base, 1 the tuned model" in text


def test_settings_list_a_section_at_80_columns(tmp_path: Path) -> None:
    text = shown("settings", "place.engine", cwd=tmp_path)
    assert "  place.engine.kv_cache_gib = null\n      integer, at least 1, or null [GiB]\n" in text
    assert "sft.epochs" not in text
    assert max(map(len, shown("settings", cwd=tmp_path).splitlines())) <= 80


def test_settings_are_also_written_as_markdown_and_json(tmp_path: Path) -> None:
    rows = [line for line in shown("settings", "--format", "markdown").splitlines() if "`" in line]
    keys = {one.key for section in reference.sections() for one in section.settings}
    assert {line.split("`")[1] for line in rows if line.startswith("| `")} == keys
    (alone,) = json.loads(shown("settings", "sft.epochs", "--format", "json"))
    assert (alone["key"], alone["default"], alone["unit"]) == ("sft.epochs", "4", "epochs")
    done = run_python("-c", MAIN, "settings", "--format", "html")
    assert "allowed: text, markdown, json" in refusal(done)
    assert "did you mean decoder?" in refusal(run_python("-c", MAIN, "settings", "decodr"))


def test_configs_are_listed_with_their_question_wherever_one_is(tmp_path: Path) -> None:
    text = " ".join(shown("configs", cwd=tmp_path).split())
    names = [path.stem for path in (ROOT / "jobs/configs").glob("*.yaml")]
    assert [name for name in names if f"{name} " not in text] == []
    assert "quickstart What does fine-tuning on data with more decision points do" in text


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("study sft.ep", "sft.epochs="),
        ("study --config quick", "quickstart"),
        ("settings place.e", "place.engine"),
    ],
)
def test_a_shell_completes_settings_and_configs(words: str, offered: str) -> None:
    environment = {"COMP_WORDS": f"forkdiv {words}", "COMP_CWORD": str(len(words.split()))}
    done = subprocess.run(
        [sys.executable, "-c", "from forkdiv.cli import app; app(prog_name='forkdiv')"],
        cwd=ROOT,
        env={**os.environ, **environment, "_FORKDIV_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [offered], done.stderr


def test_a_named_config_works_in_an_empty_folder_and_an_unknown_one_is_refused(
    tmp_path: Path,
) -> None:
    run = [sys.executable, "-c", MAIN, "plan", f"place.root={tmp_path / 'runs'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    inside = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*run, "--config", "quickstart"], **inside, timeout=60)  # type: ignore[call-overload]
    assert done.returncode == 0 and "graph-d3-l3" in done.stdout
    done = subprocess.run([*run, "--config", "quickstrat"], **inside, timeout=60)  # type: ignore[call-overload]
    assert "did you mean quickstart?" in refusal(done)


def test_every_verb_has_a_job_that_runs_it() -> None:
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__"}
    assert jobs == set(VERBS)


def test_a_refusal_loads_nothing_heavy(tmp_path: Path) -> None:
    done = run_python("-c", HELP, "study", f"place.root={tmp_path}", "base=/no/such")
    assert done.returncode == 2
    assert HEAVY.isdisjoint(done.stdout.partition("LOADED")[2].split())


def test_benchmarks_are_listed_with_grader_source_and_licence(tmp_path: Path) -> None:
    text = " ".join(shown("benchmarks", cwd=tmp_path).split())
    assert "gsm8k grade-school word problems" in text
    assert "grader unit_tests; data openai/openai_humaneval" in text
    assert "licence CC-BY-4.0" in text


@pytest.mark.parametrize("words", [("settings",), ("plan", "--config", "arithmetic-chain")])
def test_a_reader_that_ends_first_is_not_reported_as_a_bug(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
