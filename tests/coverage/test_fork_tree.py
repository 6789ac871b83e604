"""What a tree of correct responses says of its forks is what counting by hand says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.records import Fork
from forkdiv.coverage.fork_summary import ForkNode
from forkdiv.coverage.fork_tree import ForkTree, Path
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from forkdiv.tasks.search_modes import SearchModesConfig

END = 0
RIGHT = Fork(2, ("b", "c"), ("b",), signed=False)
Solutions = Sequence[tuple[str, Sequence[Fork]]]
Placed = tuple[list[int], list[int]]


def letters(text: str) -> Placed:
    """Every character is a token, spaces too."""
    return [ord(char) for char in text], list(range(1, len(text) + 1))


def words(text: str) -> Placed:
    """Every word is a token; spaces are none."""
    ends = [i + 1 for i in range(len(text)) if text[i] != " " and text[i + 1 : i + 2] in ("", " ")]
    return [_number(word) for word in text.split()], ends


def spaced(text: str) -> Placed:
    """Every word is a token with the space before it, as byte-level tokenizers have it."""
    ids, ends = words(text)
    return [*ids[:1], *(10**8 + token for token in ids[1:])], ends


def trailing(text: str) -> Placed:
    """Every word is a token with the space after it."""
    ids, ends = words(text)
    return [*(10**8 + token for token in ids[:-1]), ids[-1]], [
        *(e + 1 for e in ends[:-1]),
        ends[-1],
    ]


def _number(word: str) -> int:
    return int.from_bytes(word.encode(), "big")


def logs_of(tree: ForkTree, chance: Callable[[Path], float]) -> dict[Path, float]:
    return {step: math.log(p) if (p := chance(step)) else -math.inf for step in tree.steps}


def random_logs(tree: ForkTree, seed: int, elsewhere: float = 1.0) -> dict[Path, float]:
    """A random distribution after every path, some of it on tokens that are not in the tree."""
    random = Random(seed)
    logs: dict[Path, float] = {}
    for parent in sorted({step[:-1] for step in tree.steps}):
        steps = [step for step in tree.steps if step[:-1] == parent]
        sizes = [random.expovariate(1) ** 3 + 1e-9 for _ in steps]
        total = sum(sizes) + elsewhere * random.random()
        logs |= {step: math.log(size / total) for step, size in zip(steps, sizes, strict=True)}
    return logs


def graph(seed: int, forks: int = 1, valid: int = 1) -> Solutions:
    task = build(GraphBranchingConfig(forks=forks, valid=valid, names=26, seed=seed))
    (problem, _) = task.heldout("test", 2)
    texts = [trace.text for trace in task.solutions(problem)]
    return [(text, task.forks(problem, text) or ()) for text in texts]


def modes() -> Solutions:
    task = build(SearchModesConfig())
    (problem,) = task.heldout("test", 1)
    texts = [trace.text for trace in task.solutions(problem)]
    return [(text, task.forks(problem, text) or ()) for text in texts]


def chances(nodes: Sequence[ForkNode]) -> dict[tuple[str, str], float]:
    return {
        (node.prefix, branch): chance
        for node in nodes
        for branch, chance in zip(node.branches, node.chances, strict=True)
    }


SHAPES = st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)])
SETTINGS = settings(deadline=None, max_examples=30)


@SETTINGS
@given(shape=SHAPES, seed=st.integers(0, 10**6))
def test_q_is_the_sum_of_products_of_branch_probabilities_without_reversed_responses(
    shape: tuple[int, int], seed: int
) -> None:
    solutions = [one for one in graph(seed % 7, *shape) if one[1]]
    assert len(solutions) == shape[1] ** shape[0]
    tree = ForkTree.from_solutions(solutions, words, [END])
    _, q, nodes = tree.evaluate(0, random_logs(tree, seed))
    found, expected = chances(nodes), 0.0
    for text, forks in solutions:
        expected += math.prod(found[text[: f.at], text[f.at :].split()[0]] for f in forks)
    assert q == pytest.approx(expected)


@SETTINGS
@given(shape=SHAPES, seed=st.integers(0, 10**6))
def test_p_is_at_most_q_and_branches_are_at_most_certain(shape: tuple[int, int], seed: int) -> None:
    for tokens in (words, letters):
        tree = ForkTree.from_solutions(graph(seed % 7, *shape), tokens, [END])
        logs = random_logs(tree, seed)
        p, q, nodes = tree.evaluate(3, logs)
        whole = sum(
            math.exp(sum(logs[r[:i]] for i in range(1, len(r) + 1))) for r in tree.responses
        )
        assert p == pytest.approx(whole)
        assert 0 <= p <= q * (1 + 1e-12) <= 1 + 1e-9
        assert {node.problem for node in nodes} == {3}
        for node in nodes:
            assert min(node.chances) >= 0
            assert sum(node.chances) <= 1 + 1e-9
            assert set(node.valid) < set(node.branches)


@SETTINGS
@given(seed=st.integers(0, 10**6))
def test_q_equals_p_if_all_tokens_outside_forks_are_certain(seed: int) -> None:
    solutions = [one for one in graph(seed % 7, 2, 2) if one[1]]
    tree = ForkTree.from_solutions(solutions, words, [END])
    logs = random_logs(tree, seed, elsewhere=0.0)  # one way on: certain
    p, q, _ = tree.evaluate(0, logs)
    assert 0 < p < 1
    assert q == pytest.approx(p)


@SETTINGS
@given(seed=st.integers(0, 10**6))
def test_forks_without_wrong_branches_and_certain_other_tokens_lose_nothing(seed: int) -> None:
    solutions = modes()
    tree = ForkTree.from_solutions(solutions, words, [END])
    p, q, nodes = tree.evaluate(0, random_logs(tree, seed, elsewhere=0.0))
    assert p == pytest.approx(q)
    for node in nodes:
        right = sum(chances([node])[node.prefix, branch] for branch in node.valid)
        backtracking = node.prefix.startswith(("Okay", "Alright"))
        assert node.depth == 1 or len(node.branches) in (2, 3)
        assert len(node.valid) == (len(node.branches) if node.depth == 1 or backtracking else 1)
        assert right == pytest.approx(1) or not (node.depth == 1 or backtracking)


@pytest.mark.parametrize("tokens", [spaced, trailing])
def test_leading_and_trailing_spaces_in_tokens_give_equal_results(
    tokens: Callable[[str], Placed],
) -> None:
    plain = ForkTree.from_solutions(graph(1, 2, 2), words, [END])
    other = ForkTree.from_solutions(graph(1, 2, 2), tokens, [END])
    shape = {tuple(t % 10**8 for t in step): step for step in other.steps}
    logs = random_logs(plain, 5)
    assert shape.keys() == logs.keys()
    *found, nodes = other.evaluate(0, {shape[step]: log for step, log in logs.items()})
    *expected, same = plain.evaluate(0, logs)
    assert found == pytest.approx(expected)
    assert chances(nodes) == pytest.approx(chances(same))


def test_solutions_with_the_same_prefix_share_a_fork() -> None:
    tree = ForkTree.from_solutions(graph(0, 2, 2), words, [END])
    _, _, nodes = tree.evaluate(0, random_logs(tree, 0))
    assert [(node.depth, len(node.valid)) for node in nodes] == [(1, 2), (2, 2), (2, 2)]
    first, *second = nodes
    assert first.weight == 1
    assert sum(node.weight for node in second) == pytest.approx(1)
    assert len({node.branches for node in second}) == 1  # the same node by two arms
    assert all(node.prefix.startswith(first.prefix) for node in second)


def test_forks_of_one_depth_are_weighted_by_the_probability_of_reaching_them() -> None:
    forks = [Fork(4, ("d", "e"), ("d",), False)]
    solutions = [("a b d", forks), ("a c d", forks)]
    tree = ForkTree.from_solutions(solutions, words, [END])
    logs = logs_of(tree, lambda step: {"b": 0.6, "c": 0.2}.get(chr(step[-1]), 0.5))
    _, _, (left, right) = tree.evaluate(0, logs)
    assert (left.prefix, right.prefix) == ("a b ", "a c ")
    assert (left.weight, right.weight) == pytest.approx((0.75, 0.25))
    never = logs_of(tree, lambda step: 0.0 if step[-1] == ord("a") else 1.0)
    _, _, (left, right) = tree.evaluate(0, never)
    assert (left.weight, right.weight) == (0.5, 0.5)


def test_q_uses_the_model_probability_of_the_order_and_counts_reversed_responses_as_certain() -> (
    None
):
    tree = ForkTree.from_solutions([("a b z", [RIGHT]), ("z b a", [])], words, [END])
    first = {"a": 0.2, "z": 0.6, "b": 0.5, "c": 0.4}

    def chance(step: Path) -> float:
        fork = step in [(ord("a"), ord("b")), (ord("a"), ord("c"))]
        return first[chr(step[-1])] if len(step) == 1 or fork else 0.9

    p, q, (node,) = tree.evaluate(0, logs_of(tree, chance))
    assert node.chances == pytest.approx((0.5, 0.4))
    assert q == pytest.approx(0.25 * 0.5 + 0.75)
    assert p == pytest.approx(0.2 * 0.5 * 0.9**2 + 0.6 * 0.9**3)


def test_q_is_1_without_forks() -> None:
    tree = ForkTree.from_solutions([("a b", []), ("b a", [])], words, [END])
    p, q, nodes = tree.evaluate(0, logs_of(tree, lambda step: 0.1))
    assert p == pytest.approx(2e-3)
    assert (q, nodes) == (1.0, [])


def test_a_model_with_probability_0_of_correct_responses_has_p_0() -> None:
    tree = ForkTree.from_solutions([("a b z", [RIGHT]), ("z b a", [])], words, [END])
    p, q, (node,) = tree.evaluate(0, logs_of(tree, lambda step: 0.0))
    assert (p, node.chances, node.weight) == (0.0, (0.0, 0.0), 1.0)
    assert q == 0.5  # of two ways that the model never takes, half each


def test_a_branch_of_several_tokens_has_the_probability_of_all_of_them() -> None:
    fork = Fork(2, ("left", "lost"), ("left",), False)
    tree = ForkTree.from_solutions([("a left", [fork])], letters, [END])
    odds = {"f": 0.5, "s": 0.25, "o": 0.3, "e": 0.7}
    _, q, (node,) = tree.evaluate(0, logs_of(tree, lambda s: odds.get(chr(s[-1]), 0.8)))
    assert node.chances == pytest.approx((0.8 * 0.7 * 0.5 * 0.8, 0.8 * 0.3 * 0.25 * 0.8))
    assert q == pytest.approx(node.chances[0])


@pytest.mark.parametrize("right", ["1", "12"])
def test_a_branch_that_is_a_prefix_of_another_excludes_the_longer_one(right: str) -> None:
    fork = Fork(0, ("1", "12", "3"), (right,), False)
    tree = ForkTree.from_solutions([(f"{right} a", [fork])], letters, [END])
    odds = {"1": 0.5, "2": 0.4, "3": 0.3}
    _, q, (node,) = tree.evaluate(0, logs_of(tree, lambda step: odds.get(chr(step[-1]), 0.5)))
    assert node.chances == pytest.approx((0.5 * 0.6, 0.5 * 0.4, 0.3))
    assert q == pytest.approx(node.chances[node.branches.index(right)])


def test_two_branches_with_a_common_prefix_may_both_be_right() -> None:
    fork = Fork(0, ("1", "12", "3"), ("1", "12"), False)
    tree = ForkTree.from_solutions([("1 a", [fork]), ("12 a", [fork])], letters, [END])
    odds = {"1": 0.5, "2": 0.4, "3": 0.3}
    p, q, (node,) = tree.evaluate(0, logs_of(tree, lambda step: odds.get(chr(step[-1]), 0.5)))
    assert node.chances == pytest.approx((0.3, 0.2, 0.3))
    assert q == pytest.approx(0.5)
    assert p == pytest.approx(0.5 * 0.5**3 + 0.2 * 0.5**3)


def test_all_encodings_of_a_branch_that_depend_on_later_text_are_counted() -> None:
    def joined(text: str) -> Placed:  # "b d" is one token, "b e" are two
        ids, ends = words(text)
        at = next((i for i in range(len(ids) - 1) if ids[i : i + 2] == [ord("b"), ord("d")]), None)
        if at is None:
            return ids, ends
        return [*ids[:at], 999, *ids[at + 2 :]], [*ends[:at], *ends[at + 1 :]]

    tree = ForkTree.from_solutions([("a b d", [RIGHT]), ("a b e", [RIGHT])], joined, [END])
    odds = {999: 0.3, ord("b"): 0.2, ord("c"): 0.4}
    _, q, (node,) = tree.evaluate(0, logs_of(tree, lambda step: odds.get(step[-1], 0.5)))
    assert node.chances == pytest.approx((0.5, 0.4))
    assert q == pytest.approx(0.5)


@SETTINGS
@given(shape=SHAPES, seed=st.integers(0, 6))
def test_the_sequences_predict_every_step_and_none_is_redundant(
    shape: tuple[int, int], seed: int
) -> None:
    for tokens in (words, letters):
        tree = ForkTree.from_solutions(graph(seed, *shape), tokens, [END])
        predicted = {path[:i] for path in tree.sequences for i in range(len(path) + 1)}
        assert {step[:-1] for step in tree.steps} <= predicted
        for path in tree.sequences:
            assert not any(other[: len(path)] == path for other in tree.sequences if other != path)
    tree = ForkTree.from_solutions(graph(seed, *shape), words, [END])
    assert {
        (*path, END) for path in tree.sequences
    } == tree.responses  # a branch of one token: no more


def test_branches_with_equal_tokens_are_refused() -> None:
    def unknown(text: str) -> Placed:
        ids, ends = words(text)
        return [token if token == ord("a") else 1 for token in ids], ends

    with pytest.raises(
        UserError, match="encodes branches of a fork with the same tokens: got 'b', 'c'"
    ):
        ForkTree.from_solutions([("a b z", [RIGHT])], unknown, [END])


def test_contradictory_forks_are_an_invalid_result() -> None:
    other = Fork(2, ("b", "c"), ("b", "c"), signed=False)
    with pytest.raises(InvalidResult, match="different forks after 'a '"):
        ForkTree.from_solutions([("a b z", [RIGHT]), ("a c z", [other])], words, [END])


@pytest.mark.parametrize("text", ["a c z", "a bx z", "a"])
def test_a_correct_response_without_a_valid_branch_is_an_invalid_result(text: str) -> None:
    with pytest.raises(InvalidResult, match="takes none of the valid branches"):
        ForkTree.from_solutions([(text, [RIGHT])], words, [END])
