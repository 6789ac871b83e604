r"""Boxes: balanced braces, the last one counts, and nothing breaks the reader."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forkdiv.tasks.graders.latex import every_box, last_box_or_none

PIECES = st.sampled_from([r"\boxed{", "{", "}", r"\{", r"\}", "\\", "boxed", "x", " ", "\n"])


def balanced(depth: int = 3) -> st.SearchStrategy[str]:
    plain = st.text("ab 1+-", max_size=4)
    if depth == 0:
        return plain
    inner = st.builds("{}{{{}}}{}".format, plain, balanced(depth - 1), plain)
    return st.one_of(plain, inner, st.just(r"\{"), st.just(r"\}"))


@given(balanced(), st.text("ab{ \n", max_size=8), st.text("cd} \n", max_size=8))
def test_a_box_holds_what_was_put_into_it(content: str, before: str, after: str) -> None:
    assert last_box_or_none(rf"{before}\boxed{{{content}}}{after}") == content


@given(st.lists(balanced(), min_size=1, max_size=5))
def test_boxes_are_listed_in_order_and_the_last_one_counts(contents: list[str]) -> None:
    text = " or ".join(rf"\boxed{{{content}}}" for content in contents)
    assert every_box(text) == contents
    assert last_box_or_none(text) == contents[-1]


@given(st.lists(PIECES, max_size=30).map("".join))
def test_no_text_breaks_the_reader_and_a_box_is_part_of_its_text(text: str) -> None:
    for box in every_box(text):
        assert box is None or f"{{{box}}}" in text


@given(balanced())
def test_a_box_within_a_box_counts_once(content: str) -> None:
    assert every_box(rf"\boxed{{so \boxed{{{content}}} }}") == [content]


@given(balanced())
def test_an_unclosed_last_box_is_not_an_answer(content: str) -> None:
    assert last_box_or_none(rf"\boxed{{1}} and \boxed{{{content}") is None
    assert last_box_or_none(content) is None


def test_a_million_braces_are_read_in_a_moment() -> None:
    assert last_box_or_none(r"\boxed{" * 50_000 + "7" + "}" * 50_000) == "7"
    assert last_box_or_none("{" * 500_000 + r"\boxed{7}") == "7"
    assert last_box_or_none(r"\boxed{" * 50_000) is None
