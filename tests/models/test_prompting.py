"""Prompts: rendered once, no special token twice, and training sees what sampling sees."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from forkdiv.core.chat import pack
from forkdiv.core.config.study import PromptConfig
from forkdiv.core.errors import UserError
from forkdiv.models.loading import load_tokenizer, word_tokenizer
from forkdiv.models.prompting import (
    chat_text,
    check_template,
    encode,
    plain_text,
    prompt_ids,
    response_ids,
)
from forkdiv.tasks.registry import build
from tests.fakes import TASK

BEGIN, END = "<s>", "</s>"
MARKS = ["<|system|>", "<|user|>", "<|assistant|>"]
# As many published ones do, it writes the token that the tokenizer would add by itself.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = ["What is two plus three?", "### Instruction:\n", "### Response:\n", "Be brief. It is."]

RAW = PromptConfig()
PLAIN = PromptConfig(template="plain")
CHAT = PromptConfig(template="chat")
BRIEF = PromptConfig(template="chat", system="Be brief.")
CONFIGS = [RAW, PLAIN, CHAT, BRIEF]
TALK = [
    {"role": "user", "content": "What is two plus three?"},
    {"role": "assistant", "content": "It is five."},
    {"role": "user", "content": "And four?"},
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1e"), max_size=30)


@cache
def bpe() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer that begins every text with a token of its own, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[BEGIN, END, *MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


@cache
def words() -> PreTrainedTokenizerBase:
    return word_tokenizer(build(TASK).vocabulary(), END)


def text_of(ids: list[int]) -> str:
    return str(bpe().decode(ids, skip_special_tokens=False))


# --- what a prompt becomes ----------------------------------------------------------------------


def test_a_raw_prompt_is_the_tokenizers_own_reading_of_it() -> None:
    ids = prompt_ids(bpe(), "What is two?", RAW)
    assert ids == bpe()("What is two?")["input_ids"]
    assert text_of(ids) == "<s>What is two?"


def test_a_plain_prompt_stands_in_its_text() -> None:
    config = PromptConfig(template="plain", text="Question: {prompt}\nAnswer:")
    assert text_of(prompt_ids(bpe(), "two?", config)) == "<s>Question: two?\nAnswer:"
    assert text_of(prompt_ids(bpe(), "two?", PLAIN)) == (
        "<s>### Instruction:\ntwo?\n\n### Response:\n"
    )


def test_what_a_prompt_says_of_prompts_is_left_as_it_is() -> None:
    assert plain_text("what is {prompt}?", PromptConfig(template="plain", text="Q: {prompt}")) == (
        "Q: what is {prompt}?"
    )


def test_a_chat_prompt_is_rendered_once_and_ends_where_the_answer_begins() -> None:
    ids = prompt_ids(bpe(), "two?", CHAT)
    assert text_of(ids) == "<s><|user|>two?</s><|assistant|>" == chat_text(bpe(), "two?", CHAT)
    assert bpe().convert_ids_to_tokens(ids[-1]) == "<|assistant|>"


def test_a_system_text_comes_first_unless_the_conversation_has_its_own() -> None:
    assert chat_text(bpe(), "two?", BRIEF) == (
        "<s><|system|>Be brief.</s><|user|>two?</s><|assistant|>"
    )
    own = pack([{"role": "system", "content": "Be long."}, *TALK])
    assert chat_text(bpe(), own, BRIEF).startswith("<s><|system|>Be long.</s><|user|>")
    assert "Be brief." not in chat_text(bpe(), own, BRIEF)


def test_several_turns_are_rendered_in_their_order() -> None:
    assert chat_text(bpe(), pack(TALK), CHAT) == (
        "<s><|user|>What is two plus three?</s><|assistant|>It is five.</s>"
        "<|user|>And four?</s><|assistant|>"
    )


@settings(deadline=None)
@given(TEXTS, st.sampled_from(CONFIGS))
def test_no_template_writes_the_first_token_twice(prompt: str, config: PromptConfig) -> None:
    ids = prompt_ids(bpe(), prompt, config)
    assert ids[0] == bpe().bos_token_id
    assert ids.count(bpe().bos_token_id) == 1


@pytest.mark.parametrize("config", [RAW, PLAIN], ids=lambda config: config.template)
@pytest.mark.parametrize(
    "turns", [TALK, [{"role": "system", "content": "Be brief."}, TALK[0]]], ids=["three", "system"]
)
def test_several_turns_without_a_chat_template_are_refused(
    config: PromptConfig, turns: list[dict[str, str]]
) -> None:
    with pytest.raises(UserError) as caught:
        prompt_ids(bpe(), pack(turns), config)
    message = str(caught.value)
    assert f"{len(turns)} turns with prompt.template={config.template}" in message
    assert "allowed: prompt.template=chat" in message and "\n" not in message


# --- training and sampling ----------------------------------------------------------------------


@settings(deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(CONFIGS))
def test_training_sees_the_prompt_that_sampling_sees(
    prompt: str, response: str, config: PromptConfig
) -> None:
    head, tail = encode(bpe(), prompt, response, config)
    assert head == prompt_ids(bpe(), prompt, config)
    assert tail == [*response_ids(bpe(), response), bpe().eos_token_id]


@settings(deadline=None)
@given(TEXTS)
def test_a_response_is_its_text_and_one_end_token(response: str) -> None:
    _, tail = encode(bpe(), "two?", response, RAW)
    assert tail.count(bpe().eos_token_id) == 1 and tail[-1] == bpe().eos_token_id
    assert bpe().bos_token_id not in tail
    assert text_of(tail[:-1]) == response


@settings(deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(CONFIGS))
def test_a_prefix_follows_the_prompt_as_the_response_would(
    prompt: str, prefix: str, config: PromptConfig
) -> None:
    ids = prompt_ids(bpe(), prompt, config, prefix)
    assert ids == prompt_ids(bpe(), prompt, config) + response_ids(bpe(), prefix)
    assert ids.count(bpe().bos_token_id) == 1


def test_the_prefix_of_a_graph_response_is_the_beginning_of_its_training_ids() -> None:
    for problem in build(TASK).heldout("test", 10):
        for trace in build(TASK).solutions(problem):
            head, tail = encode(words(), problem.prompt, trace.text, RAW)
            nodes = trace.text.split()
            for cut in range(len(nodes) + 1):
                ids = prompt_ids(words(), problem.prompt, RAW, " ".join(nodes[:cut]))
                assert ids == head + tail[:cut]


# --- checkpoints --------------------------------------------------------------------------------


def test_a_saved_tokenizer_renders_the_same(tmp_path: Path) -> None:
    bpe().save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    for config in CONFIGS:
        assert prompt_ids(again, "two?", config) == prompt_ids(bpe(), "two?", config)


def test_a_saved_chat_template_is_found_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    bpe().save_pretrained(tmp_path / "chat")
    words().save_pretrained(tmp_path / "words")
    check_template(tmp_path / "chat", CHAT)
    for config in (RAW, PLAIN):
        check_template(tmp_path / "words", config)
    with pytest.raises(UserError, match=r"words has no chat template: got prompt\.template=chat"):
        check_template(tmp_path / "words", CHAT)


def test_an_empty_template_is_not_a_chat_template(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": null}')
    with pytest.raises(UserError, match="has no chat template"):
        check_template(tmp_path, CHAT)
