"""A folder in which the documented commands run: the files that the pages speak of."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests import small_llama
from tests.docs.pages import ROOT, Block, all_blocks, blocks

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<|end|>", "<|user|>", "<|system|>", "<|assistant|>"]
# samples that lm-evaluation-harness wrote, of the quickstart's task
SAMPLES = ROOT / "tests/lm_eval/files"


def lay_out(folder: Path, page: str) -> Path:
    """`folder` with `models/base`, `models/tuned`, a run of saved checkpoints, harness samples,
    and the files that the pages show."""
    shutil.copytree(models(), folder / "models")
    for model in ("base", "tuned"):
        out = folder / "out" / model
        out.mkdir(parents=True)
        (name,) = (SAMPLES / model).glob("samples_graphs_2026*.jsonl")
        shutil.copy(name, out)
    return write_files(folder, page)


def write_files(folder: Path, page: str) -> Path:
    """`folder` with the files that the pages show."""
    # its own files last: two pages may show different ones of one name
    for block in (*all_blocks(), *blocks(page)):
        if block.how == "file":
            path = folder / block.detail
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    return folder


@cache
def models() -> Path:
    """Small models of random weights that read and write any text: a chat model, and two
    others of its shape that stand for what fine-tuning makes of it."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    folder = Path(mkdtemp(prefix="forkdiv-docs-"))
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["How many apples are left? #### 3"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<|end|>", pad_token="<pad>"
    )
    fast.chat_template = TEMPLATE
    names = ("base", "tuned", "run/epoch-0001", "run/epoch-0003")
    for seed, name in enumerate(names):
        small_llama.write(folder / name, fast, seed=seed)
    return folder


def script(block: Block, added: tuple[str, ...] = ()) -> str:
    """The block as a shell script, with settings added to each command of forkdiv's."""
    return "\n".join(commands(block, added))


def commands(block: Block, added: tuple[str, ...] = ()) -> list[str]:
    """The commands of a block as they are run."""
    settings = shlex.join([*block.added, *added])
    return [f"{line} {settings}" if takes_settings(line) else line for line in block.commands()]


def takes_settings(command: str) -> bool:
    words = shlex.split(command)
    return words[0] == "forkdiv" and "--help" not in words and words[1] not in WITHOUT_SETTINGS


WITHOUT_SETTINGS = ("settings", "configs", "benchmarks", "why", "--version", "--help")


def environment() -> dict[str, str]:
    """This process's, with the commands of this Python first on the path and no Ray to join."""
    own = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    path = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")])
    return {**own, "PATH": path, "COLUMNS": "100"}


def run(
    block: Block, folder: Path, timeout: float, added: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """The block in `folder`, with its marker's settings and `added` ones."""
    if block.language == "python":
        command = [sys.executable, "-c", block.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", script(block, added)]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout
    )
