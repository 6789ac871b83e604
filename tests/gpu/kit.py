"""Packs what the GPU check needs on a machine that has PyTorch for CUDA, and no network.

    python -m tests.gpu.kit [--python 3.12] [--out build/gpu-kit]     pack, here
    python3 -m tests.gpu.kit --unpack FOLDER [--out gpu-kit]           unpack, there

The pieces are one compressed tar file, cut: `site/`, the packages, and `gguf/`, SmolLM2-135M.
Unpacking checks the SHA-256 of the whole; it needs the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PIECE = 55 * 2**20
# The platforms of a GPU machine with glibc 2.28 or newer.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]
# Ray and DeepSpeed, what they import, and the versions of transformers and its own that
# forkdiv pins. NumPy, pandas, pyarrow and the like are those of the machine.
PACKAGES = """
    ray jsonschema jsonschema-specifications referencing rpds-py attrs msgpack deepspeed hjson
    py-cpuinfo psutil pydantic pydantic-core annotated-types typing-inspection typing-extensions
    transformers tokenizers huggingface-hub httpx2 httpcore2 h11 anyio truststore peft accelerate
    safetensors einops filelock click rich colorful
"""
# Parts of Ray that training does not import.
UNUSED = ["ray/jars", "ray/cpp", "ray/rllib", "ray/dashboard/client", "ray/serve", "ray/llm"]
GGUF = "gguf==0.19.0"


def main() -> None:
    options = argparse.ArgumentParser(description="what the GPU check needs, in pieces")
    options.add_argument("--python", default="3.12", help="version of Python there")
    options.add_argument("--out", type=Path, default=Path("build/gpu-kit"))
    options.add_argument("--unpack", type=Path, help="folder of the pieces")
    asked = options.parse_args()
    if asked.unpack:
        unpack(asked.unpack, asked.out)
    else:
        pack(asked.python, asked.out)


def pack(python: str, out: Path) -> None:
    """Writes the pieces to `out`."""
    from tests.real_model import GGUF as MODEL
    from tests.real_model import PACKAGES as CACHE
    from tests.real_model import smollm2

    smollm2()  # fetches the GGUF file
    shutil.rmtree(out, ignore_errors=True)
    site = out / "site"
    _install(site, python)
    for name in UNUSED:
        shutil.rmtree(site / name, ignore_errors=True)
    whole = out / "kit.tar.xz"
    with (
        lzma.open(whole, "wb", preset=3) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as tar,
    ):
        tar.add(CACHE / MODEL, "gguf/model.gguf")
        tar.add(site, "site")
    shutil.rmtree(site)
    with whole.open("rb") as file:
        for number in range(1, 100):
            part = file.read(PIECE)
            if not part:
                break
            (out / f"piece-{number}").write_bytes(part)
            print(f"piece-{number}: {len(part) / 1e6:.0f} MB")
    (out / "sha256").write_text(_digest(whole))
    whole.unlink()


def _install(site: Path, python: str) -> None:
    """Installs the pinned packages for another version of Python; DeepSpeed is built as a pure
    package, since none of its compiled operators is used."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    pins = {name.replace("_", "-"): pin for name, _, pin in _pins()}
    wanted = [
        f"{name}=={pins[name]}" for name in PACKAGES.split() if name in pins and name != "deepspeed"
    ]
    wheels = site.parent / "wheels"
    deepspeed = f"deepspeed=={pins['deepspeed']}"
    build = [*pip, "wheel", "--no-deps", "-w", str(wheels), deepspeed]
    subprocess.run(build, check=True)
    platforms = [f"--platform={name}" for name in PLATFORMS]
    target = [f"--python-version={python}", "--implementation=cp", *platforms]
    install = [*pip, "install", "--no-deps", "--no-compile", f"--target={site}"]
    built = [str(wheel) for wheel in wheels.glob("*.whl")]
    only = ["--only-binary=:all:", *target, *wanted, GGUF, *built]
    subprocess.run([*install, *only], check=True)
    shutil.rmtree(wheels)


def _pins() -> list[tuple[str, str, str]]:
    from tests.real_model import ROOT

    lines = (ROOT / "forkdiv" / "requirements" / "cpu.txt").read_text().split()
    return [line.partition("==") for line in lines]


def unpack(pieces: Path, out: Path) -> None:
    """Joins the pieces and unpacks them to `out`. Exits if they are not those that were packed."""
    found = sorted(pieces.glob("piece-*"), key=lambda piece: int(piece.name.partition("-")[2]))
    whole = out.with_suffix(".tar.xz")
    with whole.open("wb") as file:
        for piece in found:
            file.write(piece.read_bytes())
    if _digest(whole) != (pieces / "sha256").read_text():
        sys.exit(f"{pieces} is not complete: {len(found)} pieces, another SHA-256; copy it again")
    with tarfile.open(whole, "r:xz") as tar:
        tar.extractall(out, filter="data")
    whole.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
