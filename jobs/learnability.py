"""Find out which tokens of the data can be learned as a rule, and which are coin flips.

    forkdiv learnability --config quickstart dataset.fork_density=0.5
    forkdiv learnability --config own-data task.train=FILE base=DIR

Short fine-tuning runs on halves of the data predict the tokens of the halves that they have not
seen. The table of tokens is what sft.loss=fork-aware reads, and the page shows the tokens that are
left to the base as a fourth way of finding decision points.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.terminal import say, show_table
from tuning import before_training
from tuning.resources import Work


def run(study: StudyConfig) -> None:
    from forkdiv.data import dataset
    from forkdiv.forks import synthesis
    from forkdiv.forks.audit import page, text
    from forkdiv.forks.audit.audit import audit
    from forkdiv.learnability import table
    from forkdiv.tasks.registry import build
    from tuning.open_study import open_study

    study, base = before_training.checked_without_sweep(study, say)
    # only synthesis from samples needs the sampler
    samples = study.dataset.synthesis == synthesis.SAMPLES
    with open_study(study, base, "learnability", say, Work(samples=samples)) as work:
        pipeline = work.pipeline
        data = pipeline.data(work.study)
        found = pipeline.learnability(work.study, data)
        base = work.base
    card = table.read_card(found.path)
    show_table(*_classes(card), title=f"{study.name}: tokens by class")
    for line in table.sentences(card):
        say(line)
    config = study.audit.model_copy(update={"table": found.path})
    device = "cuda" if study.place.device == "gpu" else "cpu"
    done = audit(
        build(study.task),
        dataset.read(data.path),
        config,
        study.prompt.without_shots,
        base.path,
        device,
    )
    for line in text.lines(done.summary):
        say(line)
    say(f"page: {page.write(done, study.folder / 'learnability')}")
    say(f"table: {found.path}")


def _classes(card: dict[str, dict[str, dict[str, float]]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            name,
            f"{numbers['tokens']:,}",
            "" if numbers["share"] is None else f"{numbers['share']:.2%}",
        ]
        for name, numbers in card["classes"].items()
        if numbers["tokens"]
    ]
    return ["class", "tokens", "share"], rows


if __name__ == "__main__":
    cli.run_job("learnability")
