"""The wheel in an empty environment: its pins, then itself, then a study from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
SMALL = (
    "eval.problems=20",
    "eval.samples=8",
    "sweep.temperature=[1.0]",
    "sweep.fork_density=[0.5]",
    "place.dashboard=false",
)


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; a failure shows all of it."""
    kept = ("RAY_ADDRESS", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in kept}
    links = environment.get("PIP_FIND_LINKS", "")  # of pip, which uv does not read
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**environment, "UV_FIND_LINKS": links, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment that holds the wheel and its pins, by the README's lines."""
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [
        UV,
        "build",
        "--wheel",
        "-q",
        "--no-build-isolation",
        "--python",
        sys.executable,
    ]
    run(*build, "-o", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    install: list[str | Path] = [UV, "pip", "install", "-q", "--python", python, "--no-deps"]
    run(*install, wheel, cwd=folder)
    pins = run(python, "-m", "forkdiv.requirements", "cpu", cwd=folder).strip()
    backend = () if os.environ.get("PIP_FIND_LINKS") else ("--torch-backend", "cpu")
    run(*install, "--compile-bytecode", *backend, "-r", pins, cwd=folder)
    return python.parent


def test_a_study_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert "quickstart" in run(installed / "forkdiv", "configs", cwd=tmp_path)
    done = run(installed / "forkdiv", "study", "--config", "quickstart", *SMALL, cwd=tmp_path)
    assert "report: " in done
    assert (tmp_path / "runs/quickstart/report.html").is_file()
    # a second time everything is found
    again = run(installed / "forkdiv", "study", "--config", "quickstart", *SMALL, cwd=tmp_path)
    assert "fine-tuning: starting" not in again


def test_a_study_runs_where_the_user_has_jobs_and_tuning_of_their_own(
    installed: Path, tmp_path: Path
) -> None:
    for name in ("jobs", "tuning"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('the user's own {name}')")
    done = run(installed / "forkdiv", "study", "--config", "quickstart", *SMALL, cwd=tmp_path)
    assert "report: " in done
    assert (tmp_path / "runs/quickstart/report.html").is_file()
