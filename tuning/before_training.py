"""What commands that fine-tune check and say before Ray starts."""

from __future__ import annotations

from collections.abc import Callable

from forkdiv.core.config.study import StudyConfig
from forkdiv.models.checkpoint import Checkpoint
from tuning import preflight, prompt_notes, row_lengths
from tuning.space import check_data


def checked(
    study: StudyConfig, show: Callable[[str], None], measures: bool = True
) -> tuple[StudyConfig, Checkpoint]:
    """Returns the study, with what follows from the lengths of its rows, and its base. `measures`
    says that held-out problems are sampled, too. Raises UserError for what cannot work."""
    base = preflight.check(study, measures=measures)
    for note in prompt_notes.notes(study, [base.path], trains=True):
        show(f"note: {note}")
    study = row_lengths.fitting(study, [base.path], trains=True, show=show)
    check_data(study)
    return study, base


def checked_without_sweep(
    study: StudyConfig, show: Callable[[str], None]
) -> tuple[StudyConfig, Checkpoint]:
    """Returns `checked` for a command that fine-tunes once and measures nothing."""
    alone = study.model_copy(update={"sweep": type(study.sweep)()})
    return checked(alone, show, measures=False)
