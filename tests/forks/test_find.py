"""Each way finds the forks it can know of, at the character where they are, and no others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from forkdiv.core.config.study import AuditConfig, DatasetConfig, PromptConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example
from forkdiv.forks.find import exact_sites, model_sites, tree_sites
from forkdiv.forks.sites import END, ModelSiteSet, Site
from forkdiv.models.prompting import prompt_ids, response_ids
from forkdiv.tasks.base import Task
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build

BASE = Path(__file__).parents[2] / "forkdiv/models/base/graph-d3-l3"
RAW = PromptConfig()


def graph_task(**knobs: Any) -> Task:
    return build(GraphBranchingConfig(**knobs))


def graph_data(task: Task, **knobs: Any) -> list[Example]:
    return list(task.sft_examples(DatasetConfig(**knobs)))


def texts(*problems: Sequence[str]) -> list[Example]:
    """Responses to problems in plain language, one problem after the other."""
    return [
        Example(f"p{at}", f"Question {at}?", response, "", "", 0, 0, "{}")
        for at, responses in enumerate(problems)
        for response in responses
    ]


# -- exact -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "share"), [(1, 0.5), (2, 1.0)])
def test_exact_forks_are_those_of_the_generated_data(shown: int, share: float) -> None:
    task = graph_task(valid=2)
    examples = graph_data(task, examples=40, branch_coverage=shown, fork_density=0.25)
    found = exact_sites(task, examples)
    assert found.rows_read == set(range(40))
    per_row = Counter(site.row for site in found.sites)
    assert [per_row[row] for row in range(40)] == [one.forks for one in examples]
    unsigned = Counter(site.row for site in found.sites if not site.signed)
    assert [unsigned[row] for row in range(40)] == [one.unsigned_forks for one in examples]
    for site in found.sites:
        words = examples[site.row].response.split()
        assert (site.at, site.taken) == (len(words[0]) + 1, words[1])
        assert site.taken in (site.valid or ()) and len(site.branches) == 3
        assert sum(site.shown.values()) == len(site.shown) == shown
        assert site.coverage == share and site.under_covered == (share < 1)


def test_only_responses_with_the_same_prefix_share_a_fork_id() -> None:
    task = graph_task(valid=2, forks=2, names=40)
    examples = graph_data(task, examples=20, branch_coverage=2)
    sites = exact_sites(task, examples).sites
    by_fork = {(site.problem_id, examples[site.row].response[: site.at]) for site in sites}
    assert len({site.fork for site in sites}) == len(by_fork) == 10 + 20
    # the first fork shows both arms; the second is reached in two ways, with one arm each
    assert Counter((site.at > 2 + 2, site.coverage) for site in sites) == {
        (False, 1.0): 20,
        (True, 0.5): 20,
    }


def test_a_reverse_response_has_no_forks() -> None:
    task = graph_task()
    examples = graph_data(task, examples=20, direction=0.5)
    found = exact_sites(task, examples)
    assert found.rows_read == set(range(20))
    assert {examples[site.row].mode for site in found.sites} == {"forward"}
    assert all(site.coverage is None and not site.under_covered for site in found.sites)


def test_a_wrong_branch_is_recorded_and_covers_nothing() -> None:
    task = graph_task(valid=2)
    example = graph_data(task, examples=1)[0]
    site = exact_sites(task, [example]).sites[0]
    (wrong,) = set(site.branches) - set(site.valid or ())
    words = example.response.split()
    lost = Example(**{**_fields(example), "response": " ".join([words[0], wrong, *words[2:]])})
    both = exact_sites(task, [example, lost]).sites
    assert [one.taken for one in both] == [site.taken, wrong]
    assert both[0].shown == both[1].shown == {site.taken: 1, wrong: 1}
    assert both[1].coverage == 0.5  # a wrong branch covers nothing


def test_names_with_a_common_prefix_are_distinguished() -> None:
    facts = {
        "start": "a",
        "target": "z",
        "edges": [["a", "m"], ["a", "m1"], ["m1", "z"], ["m", "k"]],
        "marked": [],
    }
    task = graph_task(names=40)
    example = Example("p", "?", "a m1 z", "", "forward", 1, 1, json.dumps(facts))
    (site,) = exact_sites(task, [example]).sites
    assert (site.taken, site.branches) == ("m1", ("m", "m1"))
    assert site.deciding_offsets == {2, 3}  # after the m it is decided a second time


def test_facts_of_another_task_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"cannot read the `facts` column of an example.*problem p0"
    ):
        exact_sites(graph_task(), texts(["a b", "a c"]))


def _fields(example: Example) -> dict[str, Any]:
    return {name: getattr(example, name) for name in example.__slots__}


# -- from several solutions --------------------------------------------------------------------


@pytest.mark.parametrize("shown", [1, 2, 3])
def test_the_tree_finds_exactly_the_forks_at_which_two_arms_are_shown(shown: int) -> None:
    task = graph_task(degree=4, valid=3)
    examples = graph_data(task, examples=30, branch_coverage=shown)
    exact = {(site.row, site.at): site for site in exact_sites(task, examples).sites}
    tree = tree_sites(examples).sites
    assert {(site.row, site.at) for site in tree} == (set(exact) if shown > 1 else set())
    for site in tree:
        known = exact[site.row, site.at]
        assert (site.shown, site.taken, site.fork) == (known.shown, known.taken, known.fork)
        assert site.branches == tuple(site.shown) and len(site.shown) == shown
        assert site.coverage is None and site.valid is None


def test_plain_responses_diverge_at_words() -> None:
    examples = texts(
        [
            "Add the tens first.\nThen the ones.",
            "Add the ones first.\nThen the tens.",
            "Add  the tens first.\n\nThen the ones, and stop.",
            "Count up.",
        ],
        ["Paris.", "Paris."],
        ["Yes", "Yes, surely"],
        ["No.", "No. Never."],
    )
    found = tree_sites(examples)
    assert found.rows_read == {0, 1, 2, 3, 6, 7, 8, 9}  # two equal answers tell nothing
    assert [(site.row, site.at, site.taken, dict(site.shown)) for site in found.sites] == [
        (0, 0, "Add", {"Add": 3, "Count": 1}),
        (0, 8, "tens", {"ones": 1, "tens": 2}),
        (0, 29, "ones.", {"ones,": 1, "ones.": 1}),
        (1, 0, "Add", {"Add": 3, "Count": 1}),
        (1, 8, "ones", {"ones": 1, "tens": 2}),
        (2, 0, "Add", {"Add": 3, "Count": 1}),
        (2, 9, "tens", {"ones": 1, "tens": 2}),
        (2, 31, "ones,", {"ones,": 1, "ones.": 1}),
        (3, 0, "Count", {"Add": 3, "Count": 1}),
        (6, 0, "Yes", {"Yes": 1, "Yes,": 1}),
        (7, 0, "Yes,", {"Yes": 1, "Yes,": 1}),
        (8, 3, END, {END: 1, "Never.": 1}),
        (9, 4, "Never.", {END: 1, "Never.": 1}),
    ]
    # one fork, though the whitespace before it differs
    assert found.sites[1].fork == found.sites[6].fork != found.sites[2].fork


words = st.lists(st.sampled_from(["a", "b", "ab", "<b>", "é"]), max_size=5)
spaces = st.sampled_from([" ", "  ", "\n", " \t"])


@st.composite
def responses(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["", " "])) + "".join(word + draw(spaces) for word in draw(words))


corpora = st.lists(st.lists(responses(), min_size=1, max_size=4), min_size=1, max_size=3)


@given(corpora)
@settings(max_examples=150, deadline=None)
def test_sites_are_exactly_the_positions_at_which_words_diverge(problems: list[list[str]]) -> None:
    examples = texts(*problems)
    expected = {}
    for row, one in enumerate(examples):
        path = [*one.response.split(), END]
        for depth, word in enumerate(path):
            shown: Counter[str] = Counter()
            for other in examples:
                steps = [*other.response.split(), END]
                same = other.problem_id == one.problem_id and steps[:depth] == path[:depth]
                shown.update(steps[depth : depth + 1] if same else [])
            if len(shown) > 1:
                expected[row, depth] = (word, dict(shown))
    found = {}
    for site in tree_sites(examples).sites:
        text = examples[site.row].response
        assert text[site.at :].startswith(site.taken)
        assert site.taken == END or text[site.at - 1 : site.at].strip() == ""
        found[site.row, len(text[: site.at].split())] = (site.taken, dict(site.shown))
    assert found == expected


@given(corpora, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_examples_does_not_matter(
    problems: list[list[str]], random: Random
) -> None:
    examples = texts(*problems)
    order = random.sample(range(len(examples)), len(examples))
    mixed = [examples[row] for row in order]

    def seen(sites: list[Site], rows: Sequence[int]) -> set[Any]:
        return {(rows[s.row], s.at, s.taken, s.fork, tuple(s.shown.items())) for s in sites}

    straight = seen(tree_sites(examples).sites, range(len(examples)))
    assert seen(tree_sites(mixed).sites, order) == straight


# -- from a model ------------------------------------------------------------------------------


@cache
def base_reading(min_entropy: float | None = 0.5) -> tuple[list[Example], ModelSiteSet]:
    examples = graph_data(graph_task(), examples=200, fork_density=0.5)
    return examples, model_sites(BASE, examples, RAW, AuditConfig(min_entropy=min_entropy))


def test_the_base_is_unsure_at_forks_with_and_without_a_sign() -> None:
    examples, found = base_reading()
    flagged = {(site.row, site.at) for site in found.sites}
    for signed in (True, False):
        forks = [s for s in exact_sites(graph_task(), examples).sites if s.signed == signed]
        hits = [site for site in forks if (site.row, site.at) in flagged]
        assert len(forks) == 100 and len(hits) >= 0.95 * len(forks)
    by_place = {(site.row, site.at): site for site in found.sites}
    for fork in exact_sites(graph_task(), examples).sites:
        site = by_place[fork.row, fork.at]
        assert (site.taken, site.shown, site.fork) == (fork.taken, fork.shown, fork.fork)
        assert set(site.branches) == set(fork.branches)
        assert list(site.chances or ()) == sorted(site.chances or (), reverse=True)
        assert abs((site.entropy or 0) - np.log(3)) < 0.2


def test_entropies_are_those_of_the_saved_files_one_position_at_a_time() -> None:
    from forkdiv.models.loading import load_tokenizer, next_token_logprobs

    examples, found = base_reading()
    tokenizer = load_tokenizer(BASE)
    for row in (0, 57, 199):  # of two batches
        head = prompt_ids(tokenizer, examples[row].prompt, RAW)
        tail = response_ids(tokenizer, examples[row].response)
        asked = [[*head, *tail[:at]] for at in range(len(tail) + 1)]
        log = np.stack(next_token_logprobs(BASE, asked))
        expected = -(np.exp(log) * log).sum(-1)
        assert found.positions.entropy[found.positions.slice_of(row)] == pytest.approx(
            expected, abs=1e-5
        )


def test_a_quantile_flags_its_share_of_all_positions_end_tokens_included() -> None:
    examples, found = base_reading(None)
    assert len(found.positions.entropy) == 5 * len(examples)
    assert found.flagged.sum() == len(found.sites) == 0.2 * len(found.positions.entropy)
    assert found.threshold == np.quantile(found.positions.entropy, 0.8)


@cache
def language_model(folder: Path) -> Path:
    """A byte-level BPE tokenizer and a small model of random weights: it is unsure everywhere."""
    from transformers import PreTrainedTokenizerFast

    from forkdiv.models.loading import new_model

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["Add the tens first. Then the ones."] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
    new_model("micro-llama", fast, 0).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("language"))


def test_token_offsets_are_right_in_any_text(language: Path) -> None:
    from forkdiv.models.loading import load_tokenizer

    examples = texts(
        ["Add the tens first.", "Add the ones  first.\n\nThen stop. ", "", "日本 é\t🙂", "<eos> x"]
    )
    found = model_sites(language, examples, RAW, AuditConfig(min_entropy=0.0))
    tokenizer = load_tokenizer(language)
    counts = np.bincount(found.positions.row)
    lengths = [len(response_ids(tokenizer, one.response)) + 1 for one in examples]
    assert counts.tolist() == lengths and len(found.sites) == sum(lengths)
    for site in found.sites:
        text = examples[site.row].response
        assert text[site.at :].startswith(site.taken)
        assert site.taken == END or not site.taken[0].isspace() or site.taken.isspace()
        assert site.shown[site.taken] >= 1
    ends = [site for site in found.sites if site.at == len(examples[site.row].response)]
    assert sorted(site.row for site in ends) == [0, 1, 2, 3, 4]
    assert all(site.taken == END for site in ends)


def test_the_model_way_counts_branches_after_the_same_tokens(language: Path) -> None:
    examples = texts(["Add the tens", "Add the ones", "Add the"], ["Add the first"])
    config = AuditConfig(min_entropy=0.0, min_probability=0.001)
    found = model_sites(language, examples, RAW, config)
    places = {(site.row, site.at): site for site in found.sites}
    assert places[0, 8].shown == places[1, 8].shown == {END: 1, "ones": 1, "tens": 1}
    assert places[2, 7].shown == places[0, 8].shown and places[2, 7].taken == END
    assert places[3, 8].shown == {"first": 1}
    assert places[0, 8].fork == places[2, 7].fork != places[3, 8].fork
    site = places[0, 8]
    assert len(site.branches) == len(set(site.branches)) > 100
    assert set(site.missing) == set(site.branches) - set(site.shown)
    assert site.coverage == 1 - len(site.missing) / len(site.branches)


def test_examples_longer_than_the_context_are_skipped_and_counted(language: Path) -> None:
    long = "tens " * 600
    found = model_sites(language, texts(["Add", long], [long]), RAW, AuditConfig())
    assert found.rows_read == {0} and found.too_long == 2
    assert {site.row for site in found.sites} <= {0}
    with pytest.raises(UserError, match=r"no example fits the context.*allowed: up to 512"):
        model_sites(language, texts([long]), RAW, AuditConfig())


def test_a_model_that_cannot_read_the_data_is_refused(tmp_path: Path, language: Path) -> None:
    with pytest.raises(UserError, match=r"does not cover the data.*unknown of"):
        model_sites(BASE, texts(["Quite, another: language"]), RAW, AuditConfig())
    with pytest.raises(UserError, match=r"audit\.model is not a checkpoint"):
        model_sites(tmp_path, texts(["Add"]), RAW, AuditConfig())
    empty = [Example("p", "", "Add", "", "", 0, 0, "{}")]
    with pytest.raises(UserError, match="a prompt is empty"):
        model_sites(language, empty, RAW, AuditConfig())
