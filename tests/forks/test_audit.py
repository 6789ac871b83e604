"""The audit says what was counted, and its page shows it safely."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.chat import pack
from forkdiv.core.config.study import AuditConfig, PromptConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example, Outcome, Problem, Trace, Verdict
from forkdiv.forks.audit import text as audit_text
from forkdiv.forks.audit.audit import Audit, audit
from forkdiv.forks.audit.fork_match import rate
from forkdiv.forks.audit.fork_stats import word_at
from forkdiv.forks.audit.page import write
from forkdiv.forks.audit.samples import marks, samples
from forkdiv.forks.find import tree_sites
from forkdiv.forks.sites import Site
from forkdiv.tasks.base import Task
from forkdiv.tasks.own_data.config import FileConfig
from tests.forks.test_find import BASE, RAW, graph_data, graph_task, texts

APART = ("exact", "tree")


class PlainTexts(Task):
    """Texts of a task that does not know their forks."""

    def available(self, split: str) -> int:
        return 0

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        return []

    def solutions(self, problem: Problem) -> list[Trace]:
        return []

    def verify(self, problem: Problem, text: str) -> Verdict:
        return Verdict(Outcome.UNPARSABLE)


def graph_audit(config: AuditConfig, base: Path | None = None, **knobs: Any) -> Audit:
    shape = {name: knobs.pop(name) for name in ("valid", "forks", "names") if name in knobs}
    task = graph_task(**shape)
    return audit(task, graph_data(task, **knobs), config, RAW, base)


def text_audit(problems: Sequence[Sequence[str]], base: Path | None = None, **config: Any) -> Audit:
    return audit(PlainTexts(FileConfig()), texts(*problems), AuditConfig(**config), RAW, base)


@cache
def mixed() -> Audit:
    """Forward and reverse traces under all three ways, two of two right arms shown."""
    config = AuditConfig(min_entropy=0.5)
    knobs: dict[str, Any] = {
        "examples": 80,
        "branch_coverage": 2,
        "fork_density": 0.25,
        "direction": 0.75,
    }
    return graph_audit(config, BASE, valid=2, **knobs)


# -- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "mean", "under"), [(1, 0.5, 80), (2, 1.0, 0)])
def test_coverage_and_density_are_those_of_the_knobs(shown: int, mean: float, under: int) -> None:
    knobs: dict[str, Any] = {"examples": 80, "branch_coverage": shown, "fork_density": 0.25}
    found = graph_audit(AuditConfig(ways=("exact",)), valid=2, **knobs).summary
    one = found["ways"]["exact"]
    assert (one["examples"], one["sites"], one["forks"]) == (80, 80, 80 // shown)
    assert one["forks_per_example"] == 1 and one["forks_per_100_words"] == 25
    assert one["fork_density"] == 0.25 and one["unsigned"] == 20
    assert (one["mean_branches"], one["mean_shown"]) == (3, shown)
    assert one["shown_histogram"] == {str(shown): 80 // shown}
    assert one["coverage"]["mean"] == one["coverage_in_problem"]["mean"] == mean
    # judged once per fork, however many responses pass it
    assert one["coverage"]["under_covered"] == under
    assert one["coverage"]["full"] == 80 // shown - under
    assert one["places"]["words_range"] == [2, 2] and one["astray"] == 0
    assert len(one["most_under_covered"]) == min(under, 10)


def test_the_coverage_of_a_later_fork_is_counted_per_prefix() -> None:
    knobs: dict[str, Any] = {"examples": 40, "branch_coverage": 2}
    found = graph_audit(AuditConfig(ways=APART), valid=2, forks=2, names=40, **knobs).summary
    one = found["ways"]["exact"]
    # 20 problems: one first fork, and the second one after each of two beginnings
    assert one["coverage"]["defined"] == 60 and one["coverage"]["under_covered"] == 40
    assert one["coverage"]["mean"] == pytest.approx((20 * 1 + 40 * 0.5) / 60)
    assert one["coverage_in_problem"] == {"defined": 40, "mean": 1.0, "under_covered": 0}
    assert "100% anywhere in the problem's responses" in audit_text.lead(found)[0]
    tree = found["against_exact"]["tree"]
    assert tree["precision"]["hits"] == tree["precision"]["of"] == 40
    assert (tree["recall"]["hits"], tree["recall"]["of"]) == (40, 80)
    assert (tree["recall_two_shown"]["hits"], tree["recall_two_shown"]["of"]) == (40, 40)


def test_the_tree_way_has_recall_0_with_one_solution_for_each_problem() -> None:
    found = graph_audit(AuditConfig(ways=APART), examples=30).summary
    tree = found["against_exact"]["tree"]
    assert (tree["recall"]["share"], tree["recall"]["of"]) == (0.0, 30)
    for undefined in ("precision", "recall_several_solutions", "recall_two_shown"):
        assert tree[undefined]["share"] is None
    assert found["problems_with_several_solutions"] == found["ways"]["tree"]["examples"] == 0
    assert "so branch coverage is undefined" in audit_text.lead(found)[0]


def test_precision_and_recall_are_computed_against_the_tasks_forks() -> None:
    against = mixed().summary["against_exact"]
    # ten problems are told in reverse: their two arms part although every way back is right
    tree, model = against["tree"], against["model"]
    assert (tree["precision"]["hits"], tree["precision"]["of"]) == (60, 80)
    assert tree["recall"]["share"] == 1
    assert tree["no_fork_there"] == {"first word": 0, "end": 0, "other": 20}
    assert tree["no_fork_there_by_mode"] == {"reverse": 20}
    assert (model["recall_unsigned"]["of"], model["recall_signed"]["of"]) == (16, 44)
    assert model["recall"]["share"] >= 0.95
    kinds = {one["kind"]: one for one in model["kinds"]}
    assert [one["of"] for one in kinds.values()] == [16, 44, 400 - 60]
    flagged = sum(one["flagged"] for one in kinds.values())
    assert flagged == mixed().summary["model"]["flagged"] == model["precision"]["of"]
    assert kinds["signed fork"]["mean_entropy"] > 10 * kinds["no fork"]["mean_entropy"]


def test_limits_of_a_share_are_wilsons() -> None:
    one = rate(8, 10)
    assert (one["share"], one["hits"], one["of"]) == (0.8, 8, 10)
    # Wilson 1927, z = 1.96: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert (one["low"], one["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert rate(0, 0)["share"] is None


def test_lookalikes_are_named_with_their_entropy() -> None:
    groups = {(one["what"], one["text"], one["mode"]): one for one in mixed().summary["lookalikes"]}
    signed = groups["signed fork", "", ""]
    assert (signed["flagged"], signed["of"]) == (44, 44) and 1 < signed["mean_entropy"] < 1.3
    assert groups["first token", "", ""]["flagged"] == 0
    whole = ("signed fork", "first token", "end", "elsewhere")
    assert sum(groups[what, "", ""]["of"] for what in whole) == 400 - 16
    assert groups["token", "2", "reverse"]["of"] == 20
    lines = audit_text.lookalike_sentences(mixed().summary)
    sign = next(line for line in lines if "although a sign in the prompt indicates" in line)
    assert f"signed forks, 44 of 44, mean entropy {signed['mean_entropy']:.2f} nats" in sign
    assert any("flags token 2 of a reverse response as a fork" in line for line in lines)
    assert not any("first token" in line for line in lines)


def test_groups_that_are_rarely_flagged_are_not_lookalikes() -> None:
    summary = json.loads(json.dumps(mixed().summary))
    for group in summary["lookalikes"]:
        group["flagged"] = 1
    lines = audit_text.lookalike_sentences(summary)
    assert [line for line in lines if "most signed forks: 1 of 44" in line]
    assert not any("although" in line for line in lines)


def test_a_low_threshold_gives_a_warning() -> None:
    found = graph_audit(AuditConfig(ways=("model",), quantile=0.1), BASE, examples=10).summary
    assert found["model"]["threshold"] < 0.01
    assert "almost certain count as forks" in audit_text.lookalike_sentences(found)[-1]


@given(st.text(alphabet="ab \n", max_size=12), st.data())
def test_offsets_are_counted_in_words(text: str, data: st.DataObject) -> None:
    starts = [found.start() for found in re.finditer(r"\S+", text)]
    assert [word_at(text, at) for at in starts] == list(range(1, len(starts) + 1))
    at = data.draw(st.integers(0, len(text)))
    assert word_at(text, at) <= len(starts) + 1


# -- which ways, and what is refused -----------------------------------------------------------


def test_a_limit_does_not_cut_a_problem_in_two() -> None:
    knobs: dict[str, Any] = {"examples": 20, "branch_coverage": 2}
    found = graph_audit(AuditConfig(ways=("exact",), limit=7), valid=2, **knobs)
    assert len(found.examples) == 6
    assert found.summary["ways"]["exact"]["coverage"]["mean"] == 1
    assert "Only the first 6 examples were read (audit.limit=7)." in found.summary["notes"]
    whole = graph_audit(AuditConfig(ways=("exact",), limit=20), valid=2, **knobs)
    assert len(whole.examples) == 20 and whole.summary["notes"] == []


def test_a_base_that_cannot_read_the_data_is_skipped_unless_requested() -> None:
    problems = [["Yes, quite.", "No, never."]]
    found = text_audit(problems, BASE).summary
    assert list(found["ways"]) == ["tree"] and found["model"] is None
    assert found["notes"][0].startswith("The model way was skipped: the vocabulary")
    for asked in ({"ways": ("tree", "model")}, {"model": BASE}):
        with pytest.raises(UserError, match="does not cover the data"):
            text_audit(problems, BASE, **asked)


def test_an_audit_without_an_applicable_way_is_refused() -> None:
    with pytest.raises(UserError, match="the data has no examples"):
        text_audit([])
    with pytest.raises(
        UserError, match="none of the ways to find forks works with this data: got 2"
    ):
        text_audit([["Yes"], ["No"]])
    with pytest.raises(UserError, match="does not know the decision points of its data"):
        text_audit([["Yes", "No"]], ways=APART)
    with pytest.raises(UserError, match=r"audit\.ways=model needs a model"):
        text_audit([["Yes", "No"]], ways=("model",))


def test_plain_texts_are_summarised_by_the_tree_way() -> None:
    found = text_audit([["Add 3 and 2.", "Add 2 and 3.", "Count."], ["Yes."]]).summary
    assert audit_text.lead(found) == [
        "The 3 responses of 1 problem with several solutions diverge at 5 forks (1.67 per "
        "response, 55.6 per 100 words), nine in ten of them at words 1 to 2; the data alone does "
        "not show which branches are missing."
    ]
    assert found["ways"]["tree"]["coverage"] is None


def test_the_terminal_shows_positions_density_and_under_covered_forks() -> None:
    knobs: dict[str, Any] = {"examples": 20, "branch_coverage": 1, "fork_density": 1.0}
    found = graph_audit(AuditConfig(ways=APART), valid=2, **knobs)
    summary, lines = found.summary, audit_text.lines(found.summary)
    assert lines[1] == (
        "The 20 responses contain 20 forks (1 per response, 25 per 100 words), all at word 2; "
        "100% of them are unsigned; 20 of the 20 forks with several right branches are "
        "under-covered: on average the data shows 50% of the right branches after the same prefix."
    )
    first = summary["ways"]["exact"]["most_under_covered"][0]
    assert f"Under-covered: problem {first['problem_id']}, after “" in lines[2]
    assert lines[2].endswith(f"never shown {first['missing'][0]}.")


def test_the_task_takes_precedence_over_the_model_in_coverage() -> None:
    # the model misses branches it finds likely, but the task says that none is missing
    assert mixed().summary["ways"]["model"]["most_under_covered"]
    assert audit_text.most_under_covered(mixed().summary) == ("exact", [])
    assert not any(line.startswith("Under-covered:") for line in audit_text.lines(mixed().summary))
    known = {
        row: [s for s in mixed().site_sets["model"].sites if s.row == row] for row in range(80)
    }
    shown = [mark for row, sites in known.items() for mark in marks(_row(row), sites, True)]
    assert shown and not any(mark.under_covered for mark in shown)


def _row(row: int) -> Example:
    return mixed().examples[row]


# -- the files ---------------------------------------------------------------------------------


class Page(HTMLParser):
    """The text of a page, its tags, and what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.feed(text[text.index("<main>") :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_file_is_complete(tmp_path: Path) -> None:
    found = mixed()
    path = write(found, tmp_path / "new")
    assert path == tmp_path / "new" / "audit.html"
    names = ["audit.html", "audit.json", "examples.csv", "forks.parquet"]
    assert sorted(one.name for one in path.parent.iterdir()) == names
    assert json.loads((path.parent / "audit.json").read_text()) == found.summary
    table = pq.read_table(path.parent / "forks.parquet").to_pylist()
    assert len(table) == sum(len(one.sites) for one in found.site_sets.values())
    for line in table:
        assert len(line["branches"]) == len(line["shown"])
        taken = line["branches"].index(line["taken"])
        assert line["shown"][taken] >= 1
        assert (line["right"] is None) == (line["way"] != "exact")
    with (path.parent / "examples.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [one["problem_id"] for one in rows] == [one.problem_id for one in found.examples]
    assert [int(one["exact_forks"]) for one in rows] == [one.forks for one in found.examples]
    unsigned = [int(one["exact_unsigned"]) for one in rows]
    assert unsigned == [one.unsigned_forks for one in found.examples]


def test_the_page_opens_with_the_answer_and_loads_nothing(tmp_path: Path) -> None:
    text = write(mixed(), tmp_path).read_text()
    page = Page(text)
    said = [one.strip() for one in page.texts if one.strip()]
    assert said[0] == "Forks in the data: 80 examples of 40 problems"
    assert said[1] == audit_text.lead(mixed().summary)[0]
    assert said[1].startswith("The 80 responses contain 60 forks (0.75 per response")
    assert page.loads == [] and not page.tags & {"script", "link", "img", "iframe"}
    assert "url(" not in text and "@import" not in text
    for line in audit_text.lookalike_sentences(mixed().summary):
        assert line in said


def test_text_of_the_data_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    problems = [[f"{evil} a", f"{evil} <b>", f'"{evil}']]
    data = [
        Example(evil, f"{evil} & more?", one.response, evil, evil, 0, 0, "{}")
        for one in texts(*problems)
    ]
    found = audit(PlainTexts(FileConfig()), data, AuditConfig(), RAW, None)
    text = write(found, tmp_path).read_text()
    assert "<script" not in text and "<b>&lt;" not in text
    assert "&lt;script&gt;" in text and "script" not in Page(text).tags


def test_a_sample_is_the_whole_text_with_its_forks_marked() -> None:
    problems = [["Add the tens.\n\nThen stop.", "Add  the ones.\nThen stop.", "Add"], ["Yes"]]
    found = text_audit(problems)
    shown = samples(found.examples, found.site_sets, 10, 0.05)
    assert [one["row"] for one in shown] == [0, 1, 2, 3]
    for one in shown[:2]:
        plain = "".join(piece["text"] for piece in one["pieces"])
        assert plain == found.examples[one["row"]].response
        (mark, word) = [piece for piece in one["pieces"] if piece["mark"]]
        assert (mark["text"], mark["symbols"]) == ("the", "◆")
        assert word["text"] in ("tens.", "ones.")
        assert one["listed"][0]["branches"] == [
            {"text": "(end)", "shown": "shown 1×", **_other("the", "(end)")},
            {"text": "the", "shown": "shown 2×", **_other("the", "the")},
        ]
    assert [piece["text"] for piece in shown[2]["pieces"]] == ["Add", "(end)"]
    assert shown[3]["forks"] == 0


def _other(taken: str, text: str) -> dict[str, str]:
    here = "this text" if text == taken else ""
    return {"taken": here, "right": "unknown", "chance": "under 5%"}


@given(st.lists(st.text(alphabet="ab \n", max_size=12), min_size=2, max_size=4))
@settings(deadline=None)
def test_marks_are_ordered_and_do_not_overlap(responses: list[str]) -> None:
    examples = texts(responses)
    by_row: dict[int, list[Site]] = {row: [] for row in range(len(examples))}
    for site in tree_sites(examples).sites:
        by_row[site.row].append(site)
    for row, example in enumerate(examples):
        found = marks(example, by_row[row], False)
        ends = [0, *(mark.end for mark in found)]
        assert all(end <= mark.at for end, mark in zip(ends, found, strict=False))
        assert all(mark.end <= len(example.response) for mark in found)


def test_under_covered_forks_come_first_and_name_what_is_missing(tmp_path: Path) -> None:
    task = graph_task(valid=2)
    covered = graph_data(task, examples=20, branch_coverage=2)
    half = graph_data(task, examples=30, branch_coverage=1)[-3:]
    found = audit(task, [*covered, *half], AuditConfig(ways=APART, shown=5), RAW, None)
    shown = samples(found.examples, found.site_sets, 5, 0.05)
    assert [one["row"] for one in shown] == [20, 21, 22, 0, 2]
    fork = shown[0]["listed"][0]
    assert fork["under_covered"] and fork["coverage"] == "shows 1 of 2 right branches"
    assert sorted((one["right"], one["shown"]) for one in fork["branches"]) == [
        ("right", "never shown"),
        ("right", "shown 1×"),
        ("wrong", "never shown"),
    ]
    text = write(found, tmp_path).read_text()
    assert text.count("<section") == 5 and text.count(">under-covered</span>") == 3
    assert "3 of the 13 forks with several right branches are under-covered" in text


def test_a_page_of_much_data_stays_small(tmp_path: Path) -> None:
    words = " ".join(f"w{at}" for at in range(4000))
    problems = [[f"a{at} {words}", f"b{at} {words}"] for at in range(60)]
    path = write(text_audit(problems, shown=3), tmp_path)
    assert path.stat().st_size < 60_000
    assert "more characters are not shown" in path.read_text()
    assert pq.read_metadata(path.with_name("forks.parquet")).num_rows == 120


def test_a_conversation_is_shown_turn_by_turn(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sum?"}]
    data = [
        Example("p", pack(turns), response, "", "", 0, 0, "{}") for response in ("Five.", "Six.")
    ]
    text = write(
        audit(PlainTexts(FileConfig()), data, AuditConfig(), PromptConfig(), None), tmp_path
    )
    assert "<b>system:</b> Be brief.</p>" in text.read_text()
