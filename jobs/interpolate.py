"""Average the weights of two checkpoints (WiSE-FT), and write ordinary Hugging Face folders.

    forkdiv interpolate --base DIR --tuned DIR 0.25 0.5 0.75
    forkdiv interpolate --base RUN/epoch-0001 --tuned RUN/epoch-0016 0.5

The numbers are the values of alpha: 0 is the base, 1 the tuned model, 0.5 half way between. --base
is the base model, or any checkpoint saved earlier in the same training run. To measure several
values of alpha in a study, set sweep.interpolation=[0.5,1]. Both may be LoRA adapters that PEFT
saved; alpha 1 writes the base with the adapter merged in.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.progress import progress_shown
from forkdiv.core.store import Store, check_place
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.terminal import say
from tuning.adapters import with_merged


def run(study: StudyConfig) -> None:
    from forkdiv.models import interpolate
    from forkdiv.models.pair import check_pair

    if study.base is None or study.checkpoint is None:
        raise refuse(
            "interpolate needs two checkpoints",
            f"base={study.base}, tuned={study.checkpoint}",
            "two Hugging Face checkpoint folders",
            "set --base DIR and --tuned DIR",
        )
    whole = with_merged(study, say, beside_weights=False)
    assert whole.base and whole.checkpoint
    early, late = (
        open_checkpoint(path, stray_adapter=True) for path in (whole.base, whole.checkpoint)
    )
    pair = check_pair(early.path, late.path)
    check_place(study.place)
    for note in pair.notes:
        say(note)
    store = Store.of(study.place)
    alphas = study.sweep.interpolation or (study.interpolation,)
    with progress_shown(study, "interpolate", say) as progress:
        checkpoints = [interpolate.obtain(store, early, late, alpha, progress) for alpha in alphas]
    for alpha, checkpoint in zip(alphas, checkpoints, strict=True):
        say(f"alpha {alpha:g}: {store.whole(checkpoint.path)}")


if __name__ == "__main__":
    cli.run_job("interpolate")
