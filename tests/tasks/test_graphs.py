"""Graph families: every graph has one rank, every split its own, and what is exhausted says so."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import UserError
from forkdiv.tasks.base import SPLITS
from forkdiv.tasks.graphs import COUNTED_EXACTLY, SPLIT_BUCKETS, Graph, GraphSpace, node_names
from tests.graph_prompts import Edge, Shape, graphs, seen, shaped

SMALL: Shape = (2, 3, 1, 1, 7)  # 5,040 graphs
ENUMERABLE = [GraphSpace(2, 3, 1, 1, 7), GraphSpace(3, 2, 1, 2, 7), GraphSpace(4, 2, 1, 3, 7)]


def nodes(degree: int, length: int, forks: int, valid: int) -> int:
    """Nodes of one graph: the valid arms of a stage share their last node."""
    return 1 + forks * (valid * (length - 1) + (degree - valid) * length + 1)


@st.composite
def spaces(draw: st.DrawFn) -> GraphSpace:
    degree = draw(st.integers(2, 6))
    valid, length = draw(st.integers(1, degree - 1)), draw(st.integers(2, 5))
    forks, more = draw(st.integers(1, 3)), draw(st.integers(0, 9))
    return GraphSpace(degree, length, forks, valid, nodes(degree, length, forks, valid) + more)


def named(graph: Graph) -> tuple[frozenset[Edge], str]:
    """What a graph is, whatever the order of its arms."""
    return frozenset(graph.edges()), graph.target


# --- ranks --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(spaces(), st.data())
def test_two_ranks_are_two_graphs(space: GraphSpace, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, space.count - 2))
    second = data.draw(st.integers(first + 1, min(first + 1000, space.count - 1)))
    third = data.draw(st.integers(first + 1, space.count - 1))
    assert named(space.graph(first)) != named(space.graph(second))
    assert named(space.graph(first)) != named(space.graph(third))


@pytest.mark.parametrize("space", ENUMERABLE, ids=str)
def test_every_rank_is_a_graph_of_its_own(space: GraphSpace) -> None:
    assert len({named(space.graph(rank)) for rank in range(space.count)}) == space.count


@settings(deadline=None, max_examples=200)
@given(spaces(), st.data())
def test_a_graph_has_the_shape_of_its_space(space: GraphSpace, data: st.DataObject) -> None:
    graph = space.graph(data.draw(st.integers(0, space.count - 1)))
    edges = graph.edges()
    assert len(edges) == len(set(edges)) == space.forks * space.degree * space.length
    there = {node for edge in edges for node in edge}
    assert len(there) == nodes(space.degree, space.length, space.forks, space.valid)
    assert len(graph.stages) == space.forks
    for stage, following in pairwise(graph.stages):
        assert stage.exit == following.entry
    leaving, entering = Counter(a for a, _ in edges), Counter(b for _, b in edges)
    for stage in graph.stages:
        assert leaving[stage.entry] == space.degree
        assert entering[stage.exit] == space.valid
        assert (len(stage.valid), len(stage.other)) == (space.valid, space.degree - space.valid)


def enumerated(
    degree: int, length: int, valid: int, names: int
) -> set[tuple[frozenset[Edge], str]]:
    """All labelled graphs with one fork, by writing every order of the names into one drawing."""
    drawing: list[tuple[int, int]] = []
    count = 2  # node 0 is the start, node 1 the target
    for arm in range(degree):
        path = [0, *range(count, count + length - (arm < valid)), *([1] if arm < valid else [])]
        count = max(count, *(node + 1 for node in path))
        drawing += pairwise(path)
    return {
        (frozenset((order[a], order[b]) for a, b in drawing), order[1])
        for order in permutations(node_names(names), count)
    }


@pytest.mark.parametrize(
    ("degree", "length", "valid", "names"),
    [(2, 2, 1, 5), (2, 2, 1, 6), (3, 2, 1, 7), (3, 2, 2, 6), (2, 3, 1, 7), (4, 2, 3, 7)],
)
def test_ranks_name_every_graph_there_is(degree: int, length: int, valid: int, names: int) -> None:
    space = GraphSpace(degree, length, 1, valid, names)
    found = {named(space.graph(rank)) for rank in range(space.count)}
    assert found == enumerated(degree, length, valid, names)


def test_node_names_are_distinct_up_to_the_limit() -> None:
    assert node_names(3) == ["a", "b", "c"] and node_names(28)[25:] == ["z", "a1", "b1"]
    assert len(set(node_names(2600))) == 2600


def test_names_and_arms_are_drawn_evenly() -> None:
    # of every node of 5,040 graphs in turn, so that each name is as often at each place
    space = GraphSpace(2, 3, 1, 1, 7)
    starts = Counter(space.graph(rank).root for rank in range(space.count))
    targets = Counter(space.graph(rank).target for rank in range(space.count))
    assert set(starts.values()) == set(targets.values()) == {720}


# --- splits -------------------------------------------------------------------------------------


def test_the_shares_of_the_splits_are_all_buckets_once() -> None:
    buckets = [bucket for split in SPLITS for bucket in SPLIT_BUCKETS[split]]
    assert sorted(buckets) == list(range(16))


def test_a_graph_keeps_its_key_whatever_its_target_and_the_order_of_its_arms() -> None:
    space = GraphSpace(2, 3, 1, 1, 7)
    keys: dict[frozenset[Edge], set[str]] = {}
    for rank in range(space.count):
        graph = space.graph(rank)
        keys.setdefault(frozenset(graph.edges()), set()).add(graph.key)
    assert len(keys) == space.count // 2, "each graph comes with either end for its target"
    assert all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == len(keys)


@pytest.mark.parametrize("space", ENUMERABLE, ids=str)
def test_a_small_family_is_enumerated_without_repetition(space: GraphSpace) -> None:
    found: set[tuple[frozenset[Edge], str]] = set()
    for split in SPLITS:
        drawn = [named(graph) for graph in space.draw(split, space.available(split), seed=3)]
        assert len(drawn) == len(set(drawn)) == space.available(split) > 0
        assert not found & set(drawn)
        found |= set(drawn)
    assert len(found) == space.count <= COUNTED_EXACTLY


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_graph_more_than_there_are_is_refused_after_all_of_them(split: str, seed: int) -> None:
    space = GraphSpace(2, 3, 1, 1, 7)
    there = space.available(split)
    drawn: list[Graph] = []
    with pytest.raises(UserError, match=f"{there + 1} requested; allowed: up to {there} with"):
        drawn.extend(space.draw(split, there + 1, seed))
    assert len(drawn) == there


def test_the_size_of_a_large_split_is_estimated_to_within_a_tenth() -> None:
    space = GraphSpace(2, 3, 1, 1, 8)
    assert space.count == 40_320 > COUNTED_EXACTLY
    for split in SPLITS:
        found = sum(
            space.graph(rank).bucket in SPLIT_BUCKETS[split] for rank in range(0, space.count, 5)
        )
        assert 5 * found == pytest.approx(space.available(split), rel=0.1)


def test_no_graph_is_in_two_splits_whatever_the_seeds() -> None:
    # of 20,160 graphs, so that splits drawn blindly would share hundreds
    found: dict[str, set[frozenset[Edge]]] = {split: set() for split in SPLITS}
    for seed in range(3):
        task = shaped((2, 3, 1, 1, 8), seed)
        data = DatasetConfig(examples=1000, fork_density=seed / 2, direction=0.5, seed=seed)
        walks = PretrainConfig(examples=1000, walks=1, seed=seed)
        found["validation"] |= graphs(task.heldout("validation", 400))
        found["test"] |= graphs(task.heldout("test", 600))
        found["train"] |= graphs(task.sft_examples(data))
        found["pretrain"] |= graphs(task.walk_examples(walks, " "))
    assert all(len(graphs_of) >= 400 for graphs_of in found.values())
    assert sum(map(len, found.values())) == len(set.union(*found.values()))


def test_no_graph_of_a_row_is_in_two_splits_whatever_the_knobs() -> None:
    shape: Shape = (3, 3, 2, 2, 17)
    train: set[frozenset[Edge]] = set()
    for seed, shown in enumerate((1, 2)):
        data = DatasetConfig(examples=400, branch_coverage=shown, fork_density=0.5, seed=seed)
        train |= graphs(shaped(shape, seed).sft_examples(data))
    held = shaped(shape)
    assert len(train) == 600
    assert not train & (graphs(held.heldout("test", 200)) | graphs(held.heldout("validation", 100)))


def test_a_split_is_decided_by_the_graph_and_by_nothing_else() -> None:
    # seeds and knobs draw other listings, signs and goals of one graph, never another split
    goals: dict[frozenset[Edge], set[tuple[str, str]]] = {}
    for seed in range(6):
        for example in shaped(SMALL).sft_examples(DatasetConfig(examples=600, seed=seed)):
            prompt = seen(example.prompt)
            goals.setdefault(prompt.graph, set()).add((prompt.goal, example.subset))
    assert sum(len(ways) > 1 for ways in goals.values()) > 100
    held = shaped(SMALL)
    others = graphs(held.heldout("test", 100)) | graphs(held.heldout("validation", 60))
    assert not others & set(goals)


def test_a_set_of_problems_has_no_problem_and_no_id_twice() -> None:
    task = shaped((2, 3, 1, 1, 8))
    examples = list(task.sft_examples(DatasetConfig(examples=4000, direction=0.5)))
    graph_and_goal = {(seen(one.prompt).graph, seen(one.prompt).goal) for one in examples}
    assert len(graph_and_goal) == len({one.problem_id for one in examples}) == 4000
    problems = task.heldout("test", 2000)
    graph_and_goal = {(seen(one.prompt).graph, seen(one.prompt).goal) for one in problems}
    assert len(graph_and_goal) == len({one.id for one in problems}) == 2000


# --- held-out problems --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3, 1, 1, 16), (3, 3, 2, 2, 24)])
def test_heldout_problems_are_half_signed_and_half_unsigned_in_the_asked_split(
    shape: Shape,
) -> None:
    for split in ("validation", "test"):
        problems = shaped(shape).heldout(split, 50)
        assert Counter(problem.subset for problem in problems) == {"signed": 25, "unsigned": 25}
        assert {problem.split for problem in problems} == {split}


def test_a_task_has_its_own_number_of_heldout_problems() -> None:
    task = shaped((3, 3, 1, 1, 16))
    assert task.heldout("test") == task.heldout("test", task.sizes["test"])


@pytest.mark.parametrize("shape", [(3, 3, 1, 1, 16), (3, 3, 2, 2, 24), SMALL])
def test_a_longer_list_of_heldout_problems_begins_with_the_shorter(shape: Shape) -> None:
    task = shaped(shape)
    assert task.heldout("test", 120)[:60] == task.heldout("test", 60)


@pytest.mark.parametrize("shape", [(3, 3, 1, 1, 16), (3, 3, 2, 2, 24)])
def test_heldout_problems_are_the_same_whatever_was_made_before(shape: Shape) -> None:
    task = shaped(shape)
    before = task.heldout("test", 20)
    for density in (0.0, 0.3, 1.0):
        data = DatasetConfig(examples=50, fork_density=density, direction=0.5, seed=7)
        for _, _ in zip(range(20), task.sft_examples(data), strict=False):
            pass
        assert task.heldout("test", 20) == before
    assert shaped(shape).heldout("test", 20) == before


def test_the_task_seed_draws_other_heldout_problems() -> None:
    first, second = shaped((3, 3, 1, 1, 16), 0), shaped((3, 3, 1, 1, 16), 1)
    assert not graphs(first.heldout("test", 50)) & graphs(second.heldout("test", 50))


def test_heldout_problems_that_do_not_divide_over_the_subsets_are_refused() -> None:
    with pytest.raises(UserError, match=r"got 7; allowed: a multiple of 2 \(signed, un"):
        shaped((3, 3, 1, 1, 16)).heldout("test", 7)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_too_few_distinct_problems_are_refused_with_both_counts(split: str) -> None:
    task = shaped(SMALL)
    there = task.available(split)
    assert len(task.heldout(split, there - there % 2)) == there - there % 2
    with pytest.raises(UserError) as caught:
        task.heldout(split, there + 2 - there % 2)
    message = str(caught.value)
    assert f"too few distinct problems for the {split} split" in message
    assert f"{there + 2 - there % 2} requested; allowed: up to {there} with" in message
    assert "\n" not in message


def test_too_few_problems_for_the_data_are_refused() -> None:
    task = shaped(SMALL)
    there = task.available("train")
    assert len(list(task.sft_examples(DatasetConfig(examples=there)))) == there
    with pytest.raises(UserError, match=f"train split: got {there + 1} requested"):
        list(task.sft_examples(DatasetConfig(examples=there + 1)))
    with pytest.raises(UserError, match="pretrain split"):
        list(task.walk_examples(PretrainConfig(examples=5000, walks=1), " "))
