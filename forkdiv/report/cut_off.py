"""Where the responses of models with thinking were cut off, in one line for the terminal."""

from __future__ import annotations

from forkdiv.report.glance import MAX_MODELS, whole_subset
from forkdiv.report.grid import Grid, nearest_1, thinned


def cut_off_line(grid: Grid) -> str:
    """Returns the shares of responses that were cut off inside their thinking and in their answer,
    by model; empty if none was cut off inside its thinking."""
    if not grid.temperatures:
        return ""
    place = nearest_1(grid.temperatures), whole_subset(grid)
    parts, inside_any = [], 0
    for model in (None, *thinned(grid.settings, MAX_MODELS)):
        cells = grid.at(model, *place)
        drawn = sum(cell.n_drawn or cell.n_problems * cell.n_samples for cell in cells)
        if not drawn:
            continue
        inside = sum(cell.truncated_thinking for cell in cells)
        after = sum(cell.truncated for cell in cells) - inside
        name = model.label if model else "base"
        parts.append(f"{name} {100 * inside / drawn:.0f}% and {100 * after / drawn:.0f}%")
        inside_any += inside
    if not inside_any:
        return ""
    return (
        f"responses cut off inside their thinking, and in their answer: {', '.join(parts)}; raise "
        "decoder.max_new_tokens, or turn thinking off (prompt.template_args)"
    )
