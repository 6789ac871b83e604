"""Cases of the config reader: bytes of a file, values of a document, and overrides."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

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
        return _difference(study, json.loads(written.decode("utf-8", "surrogatepass")), "")

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


def _difference(value: Any, meant: Any, where: str) -> str | None:
    """Returns the first value of an accepted config that is not what was written."""
    if isinstance(meant, dict):
        for key, inner in meant.items():
            has = key in value if isinstance(value, dict) else hasattr(value, key)
            if not has:
                return f"{where}{key} was dropped"
            one = value[key] if isinstance(value, dict) else getattr(value, key)
            if found := _difference(one, inner, f"{where}{key}."):
                return found
        return None
    if isinstance(meant, list) and isinstance(value, list | tuple) and len(meant) == len(value):
        pairs = enumerate(zip(value, meant, strict=True))
        return next((d for n, (a, b) in pairs if (d := _difference(a, b, f"{where}{n}."))), None)
    if isinstance(meant, float) and not math.isfinite(meant):
        return None  # JSON's Infinity is text in YAML
    if isinstance(value, bool) is not isinstance(meant, bool):
        same = False
    elif isinstance(value, int | float) and isinstance(meant, int | float):
        same = value == meant or (abs(meant) < 1e300 and math.isclose(value, meant))
    elif isinstance(value, Path) and isinstance(meant, str):
        same = meant in str(value) or value.name == Path(meant).name
    else:
        same = value == meant or (meant is None and isinstance(value, BaseModel))
    return None if same else f"{where[:-1]}: {meant!r:.60} became {value!r:.60}"
