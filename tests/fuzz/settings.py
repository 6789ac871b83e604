"""Cases of the config reader: bytes of a file, values of a document, and overrides."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

from forkdiv.core.config import yaml_text
from forkdiv.core.config.load import load
from forkdiv.core.config.shipped import configs
from tests.fuzz.case import Case
from tests.fuzz.mutate import VALUES, damage_file, damaged_value, dumped

KEYS = (
    *("sft.epochs", "sft.learning_rate", "eval.k", "eval.samples", "decoder.temperature"),
    *("decoder.top_p", "task.kind", "task", "place.root", "place.http.port", "sweep.seed"),
    *("dataset.examples", "base", "checkpoint", "prompt.chat_template", "prompt.date", "decoders"),
    *("place.workers", "audit.limit", "synthesis.budget", "eval.bootstrap", "name", "data"),
)


def config_bytes(folder: Path, rng: Random) -> Case:
    path = folder / "config.yaml"
    path.write_bytes(Path(rng.choice(list(configs().values()))).read_bytes())
    what = damage_file(path, rng, is_json=False)
    return Case("config bytes", what, lambda: load(path))


def config_value(folder: Path, rng: Random) -> Case:
    """JSON is YAML: what was meant is known."""
    path = folder / "config.yaml"
    source = Path(rng.choice(list(configs().values()))).read_text()
    what, value = damaged_value(yaml_text.read(source).value, rng)
    written = dumped(value, rng)
    path.write_bytes(written)

    def wrong(study: Any) -> str | None:
        meant = json.loads(written.decode("utf-8", "surrogatepass"))
        return _difference(study.model_dump(mode="json"), meant, "")

    return Case("config value", what, lambda: load(path), wrong)


def override(folder: Path, rng: Random) -> Case:
    key = rng.choice(KEYS)
    if rng.random() < 0.15:
        key = rng.choice((key + ".x", key.upper(), "." + key, key + ".", "a." * 2000, "\udcff", ""))
    value = rng.choice(VALUES)()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.2:
        text = rng.choice(("010", "1:30", "0x10", "1e3", "!!int 3", "&a [*a]", "{a: &x 1, b: *x}"))
    word = f"{key}={text}"
    return Case("override", word[:200], lambda: load(None, [word]))


def _difference(dump: Any, meant: Any, where: str) -> str | None:
    """Returns the first value of an accepted config that is not what was written."""
    if isinstance(meant, dict) and isinstance(dump, dict):
        for key, value in meant.items():
            if key not in dump:
                # a setting may leave itself out where it has its default
                if value not in (None, [], {}):
                    return f"{where}{key} was dropped"
            elif found := _difference(dump[key], value, f"{where}{key}."):
                return found
        return None
    if isinstance(meant, list) and isinstance(dump, list) and len(meant) == len(dump):
        pairs = enumerate(zip(dump, meant, strict=True))
        return next((d for n, (a, b) in pairs if (d := _difference(a, b, f"{where}{n}."))), None)
    if isinstance(dump, bool) is not isinstance(meant, bool):
        return f"{where[:-1]}: {meant!r:.60} became {dump!r:.60}"
    if isinstance(dump, int | float) and isinstance(meant, int | float):
        same = dump == meant or math.isclose(dump, meant)
    elif isinstance(dump, str) and isinstance(meant, str):
        same = dump.endswith(meant.removeprefix("./")) or Path(meant).name == Path(dump).name
    else:
        same = dump == meant or meant in ({}, None)
    return None if same else f"{where[:-1]}: {meant!r:.60} became {dump!r:.60}"
