"""Your own data on the real stack: a chat model of any vocabulary, from a JSONL file to pass@k."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from forkdiv.core.config.study import DatasetConfig
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build
from tests import small_llama, stack

pytestmark = pytest.mark.stack

TEMPLATE = (
    "<bos>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<|end|>", "<|user|>", "<|system|>", "<|assistant|>"]
NAMES = "apple pear plum fig lime date nut kiwi pen cup hat key map jar"
ITEMS = [(name, 3 + 5 * at) for at, name in enumerate(NAMES.split(" "))]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop.jsonl"
    lines = [
        {
            "question": f"There are {count - 1} of the {item}. One comes. How many?",
            "solution": f"There are {count - 1} and one: {count}.\n#### {count}",
        }
        for item, count in ITEMS
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def chat_model(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights with byte-pair tokens, a chat template that writes its own
    beginning-of-text token, and a tokenizer that would add a second one."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([rows.read_text()], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<|end|>", pad_token="<pad>"
    )
    fast.chat_template = TEMPLATE
    return small_llama.write(folder, fast, max_position_embeddings=256)


def test_a_chat_model_memorizes_the_users_rows_and_samples_them(
    rows: Path, chat_model: Path, tmp_path: Path
) -> None:
    """It could not if training and sampling put the prompt into different tokens."""
    shared = [
        f"base={chat_model}",
        "prompt={template: chat, system: Count.}",
        "decoder={temperature: 0, max_new_tokens: 48}",
    ]
    done = stack.run(
        "train",
        tmp_path,
        *shared,
        f"task={{kind: file, grader: hash, train: {rows}}}",
        "dataset.examples=null",
        "eval.problems=null",
        "eval.split=validation",
        "sft={epochs: 60, batch_size: 4, learning_rate: 0.003}",
    )
    checkpoint = done.stdout.strip().splitlines()[-1].partition(": ")[2]
    seen = build(FileConfig(train=rows, grader="hash")).sft_examples(DatasetConfig())
    learnt = tmp_path / "learnt.jsonl"
    lines = [{"question": one.prompt, "solution": one.response} for one in seen]
    learnt.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stack.run(
        "evaluate",
        tmp_path,
        *shared,
        f"checkpoint={checkpoint}",
        f"task={{kind: file, grader: hash, test: {learnt}}}",
        "eval={samples: 2, bootstrap: 200}",
    )
    found = json.loads((tmp_path / "micro" / "evaluation.json").read_text())
    (cell,) = found["cells"]
    assert cell["n_problems"] == len(lines) >= 8
    assert cell["pass_at"]["1"]["value"] == 1.0
    assert cell["delta_to_base"]["1"]["value"] == 1.0, "the base of random weights knew nothing"
