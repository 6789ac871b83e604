"""Tables hold the numbers of the summary, under columns that say what they are."""

from __future__ import annotations

from typing import Any

from forkdiv.report import exact, losses, numbers
from forkdiv.report import modes as by_mode
from forkdiv.report.cut_off import cut_off_line
from forkdiv.report.grid import Grid
from tests.summaries import (
    BROKEN_PATH,
    OTHER_ENDS,
    a_cell,
    a_summary,
    grid_summary,
    made_invalid,
    read,
)


def with_modes(cell: dict[str, Any], **modes: dict[int, int]) -> dict[str, Any]:
    """The cell with modes of equal shares; each is told by the problems behind its ks."""
    cell["modes"] = {
        name: {
            "share": 1 / len(modes),
            "pass_at": {str(k): {"value": k / 100, "problems": n} for k, n in problems.items()},
        }
        for name, problems in modes.items()
    }
    return cell


def test_reasons_of_losses_are_columns_the_most_frequent_first() -> None:
    cells = [a_cell(0.0), a_cell(0.5)]
    cells[1]["lost"] = {"timeout": 5, BROKEN_PATH: 2000}
    made = losses.losses(Grid.of(a_summary(cells)))
    at = made.header.index("unparsable") + 1
    assert made.header[at : at + 3] == [BROKEN_PATH, OTHER_ENDS, "timeout"]
    assert [row[at : at + 3] for row in made.rows] == [
        *(["12", "700", "0"], ["12", "700", "0"], ["2,000", "0", "5"])
    ]


def test_reasons_beyond_the_most_frequent_share_a_column_and_none_is_lost() -> None:
    cell = a_cell(0.5)
    cell["lost"] = {f"expected {i}": 100 - i for i in range(30)}
    made = losses.losses(Grid.of(a_summary([cell], base=[])))
    at = made.header.index("unparsable") + 1
    kept = made.header[at : at + losses.MAX_REASONS]
    assert kept == [f"expected {i}" for i in range(losses.MAX_REASONS)]
    assert made.header[at + losses.MAX_REASONS] == "22 other reasons"
    counts = [int(count.replace(",", "")) for count in made.rows[0][at : at + 9]]
    assert sum(counts) == sum(cell["lost"].values())


def test_an_invalid_cell_has_no_best_case() -> None:
    made = losses.losses(Grid.of(a_summary([made_invalid(a_cell(0.5))], base=[])))
    assert "invalid" not in made.rows[0]
    both = losses.losses(Grid.of(a_summary([a_cell(0.0), made_invalid(a_cell(0.5))])))
    assert both.rows[-1][-4:] == ["invalid", "", "invalid", ""]
    assert both.affected == {"errors": 1, "truncated": 3, "unparsable": 3}


def test_responses_cut_off_in_their_thinking_are_shown_beside_all_that_were_cut_off() -> None:
    cells = [a_cell(0.0), a_cell(0.5, truncated=1200, truncated_thinking=1100)]
    grid = Grid.of(a_summary(cells, base=[]))
    for made in (numbers.numbers(grid), losses.losses(grid)):
        at = made.header.index("truncated")
        assert [row[at] for row in made.rows] == ["3", "1,200 (1,100 in thinking)"]


def test_the_terminal_says_where_responses_were_cut_off_if_some_were_in_their_thinking() -> None:
    cut = a_cell(0.5, truncated=1200, truncated_thinking=800)
    assert cut_off_line(Grid.of(a_summary([a_cell(0.0)]))) == ""
    line = cut_off_line(Grid.of(a_summary([cut])))
    assert ": base 0% and 0%, fork density 0.5 50% and 25%; raise decoder.max_new_tokens" in line


def test_every_row_is_as_long_as_its_header() -> None:
    axes = {"fork_density": (0.0, 1.0), "structure": ("data-level", "problem-level")}
    plain = grid_summary(("all", "x"), axes).as_json()
    for cell in plain["cells"]:
        with_modes(cell, a={1: 100, 4: 9}, b={1: 2})
    grid = Grid.of(read(plain))
    modes = by_mode.modes(grid)
    assert modes
    for made in (numbers.numbers(grid), losses.losses(grid), exact.agreements(grid), modes):
        assert {len(row) for row in made.rows} == {len(made.header)}
        assert made.header[:5] == [
            *("fork density", "structure", "temperature", "seed", "subset"),
        ]


def test_a_mode_is_told_with_its_share_and_the_problems_behind_it() -> None:
    cell = with_modes(a_cell({"direction": 0.5}), forward={1: 100, 16: 20}, reverse={1: 90})
    made = by_mode.modes(Grid.of(a_summary([cell])))
    assert made
    assert made.header[4:] == [
        *("mode", "share of samples", "pass@1 given the mode", "problems with 1 or more"),
        *("pass@16 given the mode", "problems with 16 or more"),
    ]
    assert [row[4:] for row in made.rows] == [
        ["forward", "0.500", "0.010", "100", "0.160", "20"],
        ["reverse", "0.500", "0.010", "90", "none", "0"],
    ]
    assert made.names == ["forward", "reverse"]


def test_where_few_problems_have_the_most_samples_of_a_mode_a_smaller_k_is_told_too() -> None:
    plain = grid_summary(("all",), {"direction": (0.0, 0.5)}, (1.0,)).as_json()
    for cell in plain["cells"]:
        with_modes(cell, forward={1: 100, 4: 60, 16: 20}, reverse={1: 100, 4: 50})
    made = by_mode.modes(Grid.of(read(plain)))
    assert made
    assert [name for name in made.header if "given" in name] == [
        f"pass@{k} given the mode" for k in (1, 4, 16)
    ]


def test_where_all_is_told_alike_there_is_nothing_to_tell_of_modes() -> None:
    cells = [with_modes(a_cell(d), words={1: 100}) for d in (0.0, 1.0)]
    assert by_mode.modes(Grid.of(a_summary(cells))) is None
    cells[1]["modes"]["words"]["share"] = 0.98
    assert by_mode.modes(Grid.of(a_summary(cells)))


def test_limits_of_wilsons_kind_are_marked_and_only_those() -> None:
    cell = a_cell(0.5)
    cell["delta_to_base"]["1"]["method"] = "wilson"
    cell["delta_to_base"]["16"]["method"] = "score"
    made = numbers.numbers(Grid.of(a_summary([cell], base=[])))
    (row,) = made.rows
    assert row[made.header.index("change at 1")] == "+0.300 (+0.250 to +0.350)†"
    assert row[made.header.index("change at 16")] == "−0.200 (−0.250 to −0.150)"
