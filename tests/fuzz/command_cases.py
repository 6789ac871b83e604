"""Command lines over all verbs, with damaged settings and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load_file

from forkdiv.core.config.shipped import configs
from tests.fuzz import rows, stored
from tests.fuzz.checkpoints import whole
from tests.fuzz.mutate import VALUES, damage_file, dumped
from tests.fuzz.settings import KEYS
from tests.stack import BASE
from tests.summaries import grid_summary

# nobody answers there: a command that starts Ray is refused before it does
NO_RAY = "place.ray_address=127.0.0.1:9"
RAY_VERBS = ("study", "sweep", "pretrain", "train", "synthesize", "sample", "evaluate", "compare")


@dataclass(frozen=True)
class Command:
    """`wrong` says what is wrong with status 0, or None; `may_succeed` is whether it is allowed."""

    arguments: list[str]
    damage: str
    may_succeed: bool = True
    wrong: Callable[[], str | None] = lambda: None


def setting(rng: Random) -> str:
    value = rng.choice(VALUES)()
    text = value if isinstance(value, str) else dumped(value, rng).decode("utf-8", "replace")
    return f"{rng.choice(KEYS)}={text.replace(chr(0), '')[:100_000]}"


def _data(folder: Path, rng: Random) -> tuple[Path, str]:
    """A file of rows, mostly damaged."""
    path = folder / rng.choice(("data.jsonl", "data.jsonl", "data.json", "data.csv"))
    path.write_bytes(rows.written(rows.plain(rng, (40, 80)), path.suffix, rng))
    what = "whole"
    if rng.random() < 0.8:
        what = damage_file(path, rng, is_json=path.suffix == ".json")
    return path, what


def dataset(folder: Path, rng: Random) -> Command:
    if rng.random() < 0.3:
        words = [setting(rng) for _ in range(rng.choice((1, 2)))]
        return Command(["dataset", f"place.root={folder}/runs", "dataset.examples=20", *words], "")
    path, what = _data(folder, rng)
    skip = rng.choice(("skip", "refuse"))
    grader = rng.choice(("none", "numeric", "exact", "hash", "math", "no.module:f", "json:loads"))
    words = ["task.kind=file", f"task.train={path}", f"task.on_bad_row={skip}"]
    return Command(["dataset", f"place.root={folder}/runs", *words, f"task.grader={grader}"], what)


def audit(folder: Path, rng: Random) -> Command:
    path, what = _data(folder, rng)
    words = [setting(rng)] if rng.random() < 0.2 else ["task.kind=file", "task.on_bad_row=skip"]
    return Command(["audit", "--data", str(path), f"place.root={folder}/runs", *words], what)


def coverage(folder: Path, rng: Random) -> Command:
    files, what = [], ""
    for side in ("tuned", "base"):
        at = folder / side
        at.mkdir()
        source = next(path for path in rows.LM_EVAL if path.parent.name == side)
        lines = source.read_text().splitlines()[:8]
        (at / source.name).write_text("\n".join(lines))
        files.append(at / source.name)
    file = rng.choice(files)
    if rng.random() < 0.5:
        parsed = [json.loads(line) for line in file.read_text().splitlines()]
        from tests.fuzz.mutate import damaged_value

        at_line = rng.randrange(len(parsed))
        what, parsed[at_line] = damaged_value(parsed[at_line], rng)
        file.write_bytes(b"\n".join(dumped(line, rng) for line in parsed))
    else:
        what = damage_file(file, rng, is_json=False)
    words = ["coverage", "--samples", str(files[0]), f"place.root={folder}/runs", "name=c"]
    words += ["--base", str(files[1])] if rng.random() < 0.7 else []
    words += ["eval.bootstrap=100"] + ([setting(rng)] if rng.random() < 0.2 else [])

    def wrong() -> str | None:
        found = list((folder / "runs").glob("*/summary.json"))
        if not found:
            return "status 0 without a summary"
        known = {
            json.loads(line)["doc_id"]
            for line in files[0].read_bytes().split(b"\n")
            if line.strip()
        }
        cells = json.loads(found[0].read_text())["cells"]
        problems = sum(cell["n_problems"] for cell in cells if cell["subset"] == "all")
        return None if problems == len(known) else f"{problems} problems of {len(known)}"

    return Command(words, what, wrong=wrong)


def report(folder: Path, rng: Random) -> Command:
    study = folder / "runs" / "s"
    study.mkdir(parents=True)
    (study / "summary.json").write_text(json.dumps(grid_summary().as_json()))
    what = damage_file(study / "summary.json", rng)
    words = ["--beside", str(study)] if rng.random() < 0.2 else []
    return Command(["report", "name=s", f"place.root={folder}/runs", *words], what)


def store(folder: Path, rng: Random) -> Command:
    root = folder / "runs"
    made, identities = stored.with_results(root)
    files = [path for path in made.root.rglob("*") if path.is_file() and path.stat().st_size]
    file = rng.choice(files)
    before = file.read_bytes()
    what = damage_file(file, rng, is_json=file.suffix == ".json")
    action = rng.choice((["verify"], ["verify"], ["ls"], ["gc"], ["gc", "--remove"], ["x"], []))
    if rng.random() < 0.3:
        names = [identity.fingerprint[: rng.choice((4, 32))] for identity in identities[:2]]
        return Command(
            ["why", *rng.choice((names, names[:1], [str(file.parent)])), f"place.root={root}"], what
        )

    def wrong() -> str | None:
        if action != ["verify"] or file.name == "record.json":
            return None
        return f"{file.name} was changed" if stored.matters(file, before) else None

    return Command(["store", *action, f"place.root={root}"], what, wrong=wrong)


def interpolate(folder: Path, rng: Random) -> Command:
    path = whole(folder)
    if rng.random() < 0.7:
        (path / "digests.json").unlink()
    names = ("config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json")
    file = path / rng.choice([name for name in names if (path / name).exists()])
    what = damage_file(file, rng, is_json=file.suffix == ".json")
    pair = [str(path), str(BASE)]
    rng.shuffle(pair)
    alpha = rng.choice(("0.5", "0.5", "0.5", "0.25", "0", "1", "nan", "2", "-1"))
    words = [
        "interpolate",
        "--base",
        pair[0],
        "--tuned",
        pair[1],
        alpha,
        f"place.root={folder}/runs",
    ]

    def wrong() -> str | None:
        outputs = list((folder / "runs").rglob("checkpoint/model.safetensors"))
        if not outputs:
            return "status 0 without a checkpoint"
        first, second = (load_file(Path(side) / "model.safetensors") for side in pair)
        for name, value in load_file(outputs[0]).items():
            meant = (1 - float(alpha)) * first[name] + float(alpha) * second[name]
            if not np.allclose(value, meant, atol=1e-6, equal_nan=False):
                return f"{name} is not the average"
        return None

    return Command(words, what, wrong=wrong)


def plan(folder: Path, rng: Random) -> Command:
    path = whole(folder)
    file = path / rng.choice(("config.json", "config.json", "model.safetensors"))
    what = damage_file(file, rng, is_json=file.suffix == ".json")
    words = [f"base={path}", "dataset.examples=40", f"place.root={folder}/runs"]
    return Command(["plan", *words, *([setting(rng)] if rng.random() < 0.4 else [])], what)


def listing(folder: Path, rng: Random) -> Command:
    word = rng.choice(("sft", "sft.epochs", "x" * 5000, "", "task.file", "\u202e", "place.engine"))
    form = rng.choice(("text", "json", "markdown", "xml", ""))
    verb = rng.choice((["settings", word, "--format", form], ["configs"], ["--version"], [word]))
    return Command(verb, "")


def config(folder: Path, rng: Random) -> Command:
    path = folder / "config.yaml"
    path.write_bytes(Path(rng.choice(list(configs().values()))).read_bytes())
    what = damage_file(path, rng, is_json=False)
    verb = rng.choice(("dataset", "plan", "report", "export", *RAY_VERBS))
    words = [verb, "--config", str(path), f"place.root={folder}/runs", NO_RAY]
    words += ["dataset.examples=20", "place.dashboard=false"]
    return Command(words, what, may_succeed=verb not in RAY_VERBS)


def ray(folder: Path, rng: Random) -> Command:
    """Verbs that would start Ray, with a damaged checkpoint or file."""
    verb = rng.choice((*RAY_VERBS, "serve"))
    path = whole(folder)
    names = ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja")
    file = path / rng.choice(names)
    what = damage_file(file, rng, is_json=file.suffix == ".json")
    words = [verb, f"place.root={folder}/runs", NO_RAY, "place.dashboard=false"]
    if verb == "serve":
        words += ["--checkpoints", str(path)]
    elif verb == "compare":
        data, more = _data(folder, rng)
        what += f"; {more}"
        words += ["--base", str(path), "--tuned", str(BASE), "--data", str(data)]
    else:
        words += [f"base={path}", "eval.problems=4", "eval.samples=2", "dataset.examples=20"]
        words += ["prompt.template=chat"] if rng.random() < 0.3 else []
    return Command(words, what, may_succeed=False)


MAKERS: dict[Callable[[Path, Random], Command], int] = {
    dataset: 4,
    audit: 3,
    coverage: 4,
    report: 3,
    store: 4,
    interpolate: 3,
    plan: 2,
    listing: 1,
    config: 4,
    ray: 5,
}


def command_of(folder: Path, rng: Random) -> Command:
    return rng.choices(list(MAKERS), list(MAKERS.values()))[0](folder, rng)
