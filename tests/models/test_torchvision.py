"""A torchvision that breaks every transformers model is named before anything is loaded."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from forkdiv.core.errors import UserError
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.torchvision import check_torchvision


def install(folder: Path, name: str, version: str, *requires: str) -> None:
    """A distribution as a package installer leaves its metadata."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of distributions that is searched before all others."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


WRONG = {
    "a CUDA build beside torch for CPUs": ("2.13.0+cpu", "0.28.0", "torch==2.13.0"),
    "built for an older torch": ("2.13.0+cpu", "0.27.0+cpu", "torch==2.12.0"),
    "a CPU build beside torch for GPUs": ("2.13.0", "0.28.0+cpu", "torch==2.13.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_torchvision_that_does_not_fit_is_refused_with_the_remedy(site: Path, case: str) -> None:
    torch, vision, requires = WRONG[case]
    install(site, "torch", torch)
    install(site, "torchvision", vision, "numpy", requires)
    with pytest.raises(UserError) as refused:
        open_checkpoint(site)
    assert f"torchvision {vision} with torch {torch}" in str(refused.value)
    assert "pip uninstall torchvision" in str(refused.value)


@pytest.mark.parametrize(
    ("torch", "vision"),
    [("2.13.0+cpu", "0.28.0+cpu"), ("2.13.0", "0.28.0"), ("2.13.0+cu130", "0.28.0+cu130")],
)
def test_a_torchvision_that_fits_is_let_pass(site: Path, torch: str, vision: str) -> None:
    install(site, "torch", torch)
    install(site, "torchvision", vision, "torch==2.13.0")
    check_torchvision()


def test_none_is_needed() -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("torchvision")
    check_torchvision()
