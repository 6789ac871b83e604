"""What the wheel holds beside the code, and the pins that are read before anything is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DATA: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]


@pytest.mark.parametrize("package", DATA)
def test_every_file_beside_the_code_is_in_the_wheel(package: str) -> None:
    folder = ROOT / package
    there = {
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi")
    }
    packed = {path for pattern in DATA[package] for path in folder.glob(pattern)}
    assert there and there - packed == set()


@pytest.mark.parametrize("package", ["forkdiv", "jobs", "tuning"])
def test_every_folder_of_code_is_a_package(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [one for one in folders if not (one / "__init__.py").is_file()] == []


def pins(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Without any installed package, as in an environment that holds the wheel alone."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "forkdiv.requirements", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_pins_are_found_before_anything_else_is_installed(device: str) -> None:
    done = pins(device)
    assert done.returncode == 0, done.stderr
    lines = Path(done.stdout.strip()).read_text().splitlines()
    assert len(lines) > 100 and all("==" in line for line in lines)


def test_the_packages_of_the_extra_s3_are_pinned_to_one_another() -> None:
    lines = Path(pins("s3").stdout.strip()).read_text().splitlines()
    (s3fs,) = [line for line in lines if line.startswith("s3fs==")]
    assert PROJECT["project"]["optional-dependencies"]["s3"] == [s3fs]
    # s3fs asks for exactly the release of fsspec that has its number
    for device in ("cpu", "gpu"):
        assert s3fs.replace("s3fs", "fsspec") in Path(pins(device).stdout.strip()).read_text()


def test_pins_of_another_device_are_refused() -> None:
    done = pins("tpu")
    assert done.returncode == 1 and "got tpu; allowed: cpu or gpu or s3" in done.stderr
