"""Examples as token ids: kept as they are, and refused where they cannot be trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DatasetConfig, PromptConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example
from forkdiv.data import tokenized
from forkdiv.data.tokenized import Row
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.prompting import encode
from forkdiv.tasks.registry import build
from tests.fakes import TASK
from tests.stack import BASE

RAW = PromptConfig()


def example(prompt: str = "start: a goal: b path:", response: str = "a b") -> Example:
    return Example("problem-7", prompt, response, "all", "forward", 0, 0, "{}")


def refusal(examples: list[Example], start: Path = BASE) -> str:
    with pytest.raises(UserError) as caught:
        tokenized.encode_examples(examples, start, RAW)
    message = str(caught.value)
    assert "\n" not in message and ": got " in message and "; allowed: " in message
    return message


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "start"))


def test_rows_are_the_examples_in_their_order() -> None:
    examples = list(build(TASK).sft_examples(DatasetConfig(examples=6)))
    tokenizer = load_tokenizer(BASE)
    wanted = [encode(tokenizer, one.prompt, one.response, RAW) for one in examples]
    assert tokenized.encode_examples(examples, BASE, RAW) == wanted
    assert all(response[-1] == tokenizer.eos_token_id for _, response in wanted)


IDS = st.lists(st.integers(0, 2**31 - 1), max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(IDS, IDS), max_size=8))
def test_rows_are_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    tokenized.write(path, rows)
    assert tokenized.read(path) == rows
    assert list(path.parent.iterdir()) == [path]


def test_a_dataset_without_examples_is_refused() -> None:
    assert "dataset is empty" in refusal([])


@pytest.mark.parametrize(
    ("prompt", "response", "name"), [("start:", " ", "response"), ("", "a", "prompt")]
)
def test_what_is_empty_once_it_is_tokens_is_refused_by_name(
    prompt: str, response: str, name: str
) -> None:
    message = refusal([example(), example(prompt, response)])
    assert f"the {name} of example 1 (problem-7) has no tokens" in message


def test_examples_beyond_the_context_are_refused_with_their_number_and_the_longest() -> None:
    fits = example(response=" ".join(["a"] * 500))
    tokenized.encode_examples([fits], BASE, RAW)
    long = [example(response=" ".join(["a"] * n)) for n in (600, 700)]
    message = refusal([fits, *long])
    assert "2 examples do not fit the context" in message
    assert "in example 2;" in message and "at most 512" in message


def test_a_tokenizer_that_cannot_end_a_response_is_refused(start: Path) -> None:
    path = start / "tokenizer_config.json"
    settings = {k: v for k, v in json.loads(path.read_text()).items() if k != "eos_token"}
    path.write_text(json.dumps(settings))
    # the configs name one, which is then the tokenizer's
    assert tokenized.encode_examples([example()], start, RAW) == tokenized.encode_examples(
        [example()], BASE, RAW
    )
    for name in ("config.json", "generation_config.json"):
        config = json.loads((start / name).read_text())
        (start / name).write_text(json.dumps(config | {"eos_token_id": None}))
    assert "has no end token" in refusal([example()], start)


def test_a_tokenizer_without_a_padding_token_serves(start: Path) -> None:
    path = start / "tokenizer_config.json"
    settings = {k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}
    path.write_text(json.dumps(settings))
    assert load_tokenizer(start).pad_token_id is None
    assert tokenized.encode_examples([example()], start, RAW) == tokenized.encode_examples(
        [example()], BASE, RAW
    )
