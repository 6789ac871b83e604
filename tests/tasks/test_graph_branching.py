"""Graph branching: problems of the asked shape, all of their solutions, and exact verdicts.

The splits are tested in test_graphs, the knobs of the data in test_graph_data, and what shortcuts
could read in test_graph_shortcuts and test_graph_learnt.
"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.records import Outcome, Problem
from forkdiv.tasks.graph_branching import BROKEN_PATH, OTHER_ENDS, GraphBranchingConfig
from forkdiv.tasks.graphs import node_names
from forkdiv.tasks.registry import build
from tests.graph_prompts import Shape, from_example, named, seen, shaped

SHAPES: list[Shape] = [
    (2, 3, 1, 1, 16),
    (3, 3, 1, 1, 16),
    (5, 4, 1, 1, 30),
    (2, 10, 1, 1, 30),
    (3, 3, 1, 2, 16),
    (4, 5, 1, 3, 24),
    (3, 3, 2, 1, 24),
    (3, 4, 3, 2, 40),
    (4, 3, 2, 3, 26),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=named)


@cache
def heldout(shape: Shape) -> list[Problem]:
    return shaped(shape).heldout("test", 30)


# --- problems and their solutions ---------------------------------------------------------------


@shapes
def test_a_problem_is_a_row_of_forks_with_the_goal_at_its_end(shape: Shape) -> None:
    degree, length, forks, valid, _ = shape
    for problem in heldout(shape):
        prompt = seen(problem.prompt)
        assert len(prompt.edges) == len(prompt.graph) == degree * length * forks
        assert len({node for edge in prompt.edges for node in edge}) == shaped(shape).config.nodes
        assert len(prompt.forks) == forks and prompt.forks[0] == prompt.start
        for node, following in zip(prompt.forks, [*prompt.forks[1:], prompt.goal], strict=True):
            arms = [prompt.arm(branch) for branch in prompt.branches(node)]
            assert [len(arm) for arm in arms] == [length] * degree
            assert sum(arm[-1] == following for arm in arms) == len(prompt.right(node)) == valid
        assert not prompt.branches(prompt.goal)


@shapes
def test_facts_say_what_the_prompt_shows(shape: Shape) -> None:
    for problem in heldout(shape):
        assert problem.facts == from_facts(problem)
        assert problem.facts["edges"] == [list(edge) for edge in seen(problem.prompt).edges]


def from_facts(problem: Problem) -> dict[str, object]:
    prompt = seen(problem.prompt)
    return {
        "start": prompt.start,
        "target": prompt.goal,
        "edges": [list(edge) for edge in prompt.edges],
        "marked": [list(prompt.edges[i]) for i in prompt.marked],
    }


@shapes
def test_signed_problems_mark_every_right_branch_of_every_fork_and_unsigned_none(
    shape: Shape,
) -> None:
    for problem in heldout(shape):
        prompt = seen(problem.prompt)
        marked = {prompt.edges[i] for i in prompt.marked}
        right = {(node, branch) for node in prompt.forks for branch in prompt.right(node)}
        assert marked == (right if problem.subset == "signed" else set())


@shapes
def test_solutions_are_all_simple_paths_in_both_directions(shape: Shape) -> None:
    _, length, forks, valid, _ = shape
    task = shaped(shape)
    for problem in heldout(shape):
        traces = task.solutions(problem)
        forward = {tuple(one.text.split()) for one in traces if one.mode == "forward"}
        reverse = {tuple(one.text.split()) for one in traces if one.mode == "reverse"}
        assert forward == seen(problem.prompt).paths()
        assert reverse == {path[::-1] for path in forward}
        assert len(traces) == 2 * valid**forks
        assert {len(path) for path in forward} == {forks * length + 1}
        assert forks * length + 2 == task.longest_response()


@shapes
def test_every_solution_is_correct_and_the_verdict_has_its_mode(shape: Shape) -> None:
    task = shaped(shape)
    for problem in heldout(shape)[:6]:
        for trace in task.solutions(problem):
            verdict = task.verify(problem, f"  {trace.text}\n")
            assert (verdict.outcome, verdict.answer) == (Outcome.CORRECT, trace.text)
            assert verdict.mode == trace.mode


@shapes
@pytest.mark.parametrize("direction", [0.0, 0.5, 1.0])
def test_every_example_of_the_sft_data_verifies(shape: Shape, direction: float) -> None:
    task = shaped(shape)
    config = DatasetConfig(examples=40, direction=direction, seed=4)
    for example in task.sft_examples(config):
        problem = from_example(example)
        verdict = task.verify(problem, example.response)
        assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, example.mode)
        assert example.response in {trace.text for trace in task.solutions(problem)}


# --- forks --------------------------------------------------------------------------------------


@shapes
def test_the_forks_of_a_forward_solution_are_its_branch_nodes_and_where_it_leaves_them(
    shape: Shape,
) -> None:
    task = shaped(shape)
    for problem in heldout(shape)[:10]:
        prompt = seen(problem.prompt)
        for trace in task.solutions(problem):
            forks = task.forks(problem, trace.text)
            if trace.mode == "reverse":
                assert forks == []
                continue
            words = trace.text.split()
            assert len(forks) == len(prompt.forks)
            for fork, node in zip(forks, prompt.forks, strict=True):
                taken = words[words.index(node) + 1]
                assert trace.text[: fork.at].split() == words[: words.index(node) + 1]
                assert trace.text[fork.at :].split()[0] == taken and taken in fork.valid
                assert fork.branches == tuple(sorted(prompt.branches(node)))
                assert fork.valid == tuple(sorted(prompt.right(node)))
                assert fork.signed == (problem.subset == "signed")


@shapes
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_the_forks_of_an_example_are_those_the_generator_counted(
    shape: Shape, density: float
) -> None:
    task = shaped(shape)
    config = DatasetConfig(examples=30, fork_density=density, direction=0.7)
    for example in task.sft_examples(config):
        forks = task.forks(from_example(example), example.response)
        assert example.forks == len(forks) == (shape[2] if example.mode == "forward" else 0)
        assert example.unsigned_forks == sum(not fork.signed for fork in forks)


def test_names_that_begin_alike_do_not_shift_the_place_of_a_fork() -> None:
    facts = {
        "start": "a1",
        "target": "a2",
        "edges": [["a1", "a"], ["a", "b"], ["b", "a2"], ["a1", "a3"], ["a3", "b1"], ["b1", "b2"]],
        "marked": [],
    }
    problem = Problem("p", "test", "unsigned", "", facts)
    (fork,) = shaped((2, 3, 1, 1, 120)).forks(problem, "a1 a b a2")
    assert (fork.at, fork.branches, fork.valid) == (3, ("a", "a3"), ("a",))


# --- verdicts -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(SHAPES), st.integers(0, 29), st.integers(0, 10**6), st.data())
def test_a_corrupted_trace_is_wrong_unless_it_is_another_solution(
    shape: Shape, at: int, which: int, data: st.DataObject
) -> None:
    problem, task = heldout(shape)[at], shaped(shape)
    paths = seen(problem.prompt).paths()
    correct = {" ".join(path[::way]) for path in paths for way in (1, -1)}
    nodes = sorted(correct)[which % len(correct)].split()
    names = st.sampled_from(node_names(shape[4]))
    for _ in range(data.draw(st.integers(1, 3))):
        i, j = (data.draw(st.integers(0, len(nodes) - 1)) for _ in range(2))
        match data.draw(st.sampled_from(["drop", "replace", "swap", "insert", "reverse"])):
            case "drop" if len(nodes) > 1:
                del nodes[i]
            case "replace":
                nodes[i] = data.draw(names)
            case "swap":
                nodes[i], nodes[j] = nodes[j], nodes[i]
            case "insert":
                nodes.insert(i, data.draw(names))
            case "reverse":
                nodes.reverse()
    text = " ".join(nodes)
    verdict = task.verify(problem, text)
    assert verdict.outcome is (Outcome.CORRECT if text in correct else Outcome.WRONG)
    assert verdict.answer == text


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([s for s in SHAPES if s[3] > 1]), st.integers(0, 29), st.data())
def test_a_path_that_changes_to_another_right_arm_half_way_is_broken(
    shape: Shape, at: int, data: st.DataObject
) -> None:
    problem, task = heldout(shape)[at], shaped(shape)
    prompt = seen(problem.prompt)
    first, second = data.draw(st.permutations(prompt.right(prompt.start)))[:2]
    rest = sorted(path for path in prompt.paths() if path[1] == first)[0]
    cut = data.draw(st.integers(1, shape[1] - 2))
    nodes = [prompt.start, *prompt.arm(second)[:cut], *rest[1 + cut :]]
    verdict = task.verify(problem, " ".join(nodes))
    assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, BROKEN_PATH)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize(
    "shape", [(3, 3, 1, 1, 16), (2, 10, 1, 1, 30), (3, 3, 2, 1, 24)], ids=named
)
def test_an_arm_without_the_goal_is_distinguished_from_a_broken_path(shape: Shape, at: int) -> None:
    problem, task = heldout(shape)[at], shaped(shape)
    prompt = seen(problem.prompt)
    (right,) = map(list, prompt.paths())
    wrong = next(one for one in prompt.branches(prompt.start) if one != right[1])
    other = [prompt.start, *prompt.arm(wrong)]
    for nodes, detail in [
        (other, OTHER_ENDS),
        (other[::-1], OTHER_ENDS),
        (right[:-1], OTHER_ENDS),
        (right[1:], OTHER_ENDS),
        (right[::-1][:-1], OTHER_ENDS),
        ([prompt.start], OTHER_ENDS),
        ([prompt.goal], OTHER_ENDS),
        ([*right[:2], *other[2:]], BROKEN_PATH),
        ([*right, prompt.goal], BROKEN_PATH),
        ([*right, *right[::-1][1:]], BROKEN_PATH),
        ([prompt.start, prompt.goal], BROKEN_PATH),
    ]:
        verdict = task.verify(problem, " ".join(nodes))
        assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, detail), nodes


def test_a_wrong_answer_has_its_mode_if_its_first_node_shows_it() -> None:
    problem = heldout((3, 3, 1, 1, 16))[0]
    prompt = seen(problem.prompt)
    inner = next(iter(prompt.useful - {prompt.start, prompt.goal}))
    modes = {"forward": prompt.start, "reverse": prompt.goal, "": inner}
    for mode, node in modes.items():
        assert shaped((3, 3, 1, 1, 16)).verify(problem, node).mode == mode


@pytest.mark.parametrize("text", ["", "  \n", "path: a b", "a > b", "a,b", "A b", "a b <eos>", "0"])
def test_a_response_with_other_words_than_names_is_unparsable(text: str) -> None:
    verdict = shaped((3, 3, 1, 1, 16)).verify(heldout((3, 3, 1, 1, 16))[0], text)
    assert (verdict.outcome, verdict.answer) == (Outcome.UNPARSABLE, None)


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 6, 1, 1, 60), (3, 3, 3, 2, 40)], ids=named)
def test_the_vocabulary_holds_every_token_of_prompts_and_responses_once(shape: Shape) -> None:
    task = shaped(shape)
    words = task.vocabulary()
    assert len(words) == len(set(words))
    for example in task.sft_examples(DatasetConfig(examples=50, direction=0.5)):
        text = f"{example.prompt} {example.response}".replace(">", " > ").replace("!", " ! ")
        assert set(text.split()) <= set(words)


def test_build_gives_the_task_of_its_config() -> None:
    task = build(GraphBranchingConfig(degree=4, length=3, forks=2, valid=2, names=30))
    problems = task.heldout("test", 2)
    assert all(len(seen(one.prompt).branches(seen(one.prompt).start)) == 4 for one in problems)
    assert all(len(seen(one.prompt).forks) == 2 for one in problems)
    assert task.subsets == ("signed", "unsigned")
