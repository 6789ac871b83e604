"""A conversation is one text, and back: no text has two readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.chat import MARK, ROLES, pack, prompt_and_answer, unpack

texts = st.text(st.characters(codec="utf-8"), max_size=40)
texts_like_packed = texts | texts.map(lambda text: MARK + text)
messages = st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": texts_like_packed})


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


@given(st.lists(messages, min_size=1, max_size=5))
def test_every_conversation_comes_back_from_its_text(turns: list[dict[str, str]]) -> None:
    assert unpack(pack(turns)) == turns


@given(texts)
def test_a_prompt_is_its_own_text(text: str) -> None:
    packed = pack([user(text)])
    assert packed == text or text.startswith(MARK)
    assert unpack(packed) == [user(text)]


@given(st.lists(messages, min_size=1, max_size=4), st.lists(messages, min_size=1, max_size=4))
def test_different_conversations_have_different_texts(
    one: list[dict[str, str]], other: list[dict[str, str]]
) -> None:
    assert (pack(one) == pack(other)) == (one == other)


def test_text_that_looks_packed_is_packed_itself() -> None:
    looks = pack([system("Be brief."), user("Hi")])
    assert looks.startswith(MARK)
    assert unpack(pack([user(looks)])) == [user(looks)]


@pytest.mark.parametrize(
    "text",
    [
        MARK,
        MARK + "hello",
        MARK + "[]",
        MARK + "{}",
        MARK + '[{"role":"user"}]',
        MARK + '["hello"]',
    ],
)
def test_text_behind_the_mark_that_was_never_packed_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (its text is Python's own for broken JSON)
        unpack(text)


def test_an_empty_conversation_is_refused() -> None:
    with pytest.raises(ValueError, match="has no messages"):
        pack([])


def test_the_last_turn_of_the_assistant_is_the_answer_and_all_before_it_the_prompt() -> None:
    turns = [system("Be brief."), user("2+2?"), assistant("4"), user("and 3?"), assistant("7")]
    prompt, answer = prompt_and_answer(turns)
    assert (unpack(prompt), answer) == (turns[:-1], "7")


def test_a_question_and_its_answer_have_the_prompt_of_the_plain_columns() -> None:
    assert prompt_and_answer([user("2+2?"), assistant("4")]) == ("2+2?", "4")


def test_a_conversation_that_ends_with_the_user_has_no_answer() -> None:
    assert prompt_and_answer([user("2+2?")]) == ("2+2?", None)


def test_an_empty_system_message_and_absent_fields_are_allowed() -> None:
    # Parquet writes a field that one message has as null into all the others
    turns = [system(""), {**user("2+2?"), "name": None}, assistant("4")]
    prompt, _ = prompt_and_answer(turns)
    assert unpack(prompt) == [system(""), user("2+2?")]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ("2+2?", "messages is text, not a list"),
        (None, "messages is null"),
        ({"role": "user"}, "messages is an object"),
        ([], "messages is empty"),
        (["2+2?"], "message 1 is text, not an object"),
        ([user("2+2?"), 4], "message 2 is a number"),
        ([{"content": "2+2?"}], "message 1 has the role None; allowed: system, user, assistant"),
        ([{"role": "human", "content": "2+2?"}], "role 'human'"),
        ([{"role": ["user"], "content": "2+2?"}], r"role \['user'\]"),
        ([{"role": "user"}], "content that is null, not text"),
        ([{"role": "user", "content": 4}], "content that is a number"),
        ([{"role": "user", "content": [{"text": "2+2?"}]}], "content that is a list"),
        (
            [{**user("2+2?"), "tool_calls": ["x"]}],
            "a key other than role and content: 'tool_calls'",
        ),
        ([user("  ")], "message 1 is blank"),
        ([user("2+2?"), assistant(" \n")], "empty completion"),
        ([user("a"), assistant(""), user("b"), assistant("c")], "message 2 is blank"),
        ([assistant("4")], "not preceded by a user message"),
        (
            [system("Be brief."), assistant("4")],
            "message 1 has the role 'system'; 'user' is required",
        ),
        ([user("a"), assistant("b"), assistant("c")], "message 2 has the role 'assistant'"),
        ([user("a"), system("Be brief.")], "message 2 has the role 'system'"),
        ([user("a"), system("Be brief."), user("b"), assistant("c")], "must be the first"),
    ],
)
def test_an_invalid_conversation_is_refused_with_the_message_number(
    turns: object, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        prompt_and_answer(turns)
