"""Cases of the readers of checkpoints: small files, safetensors headers, indexes, templates."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

from forkdiv.core.config.prompt import PromptConfig
from forkdiv.models import asked, digests
from forkdiv.models.architecture import same_architecture
from forkdiv.models.checkpoint import (
    check_end_token,
    check_vocabulary,
    open_checkpoint,
    read_config,
)
from forkdiv.models.end_tokens import named_ends
from forkdiv.models.loading import check_loadable
from forkdiv.models.prompting import prompt_ids, read_template
from forkdiv.models.saved import saved_checkpoints
from forkdiv.models.shape import context_length
from forkdiv.models.weights import shapes
from tests.fuzz.case import Case
from tests.fuzz.mutate import damage_file, damaged_bytes, damaged_value, dumped, replaced
from tests.stack import BASE

INDEX = "model.safetensors.index.json"
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BAD_TEMPLATES = (
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 10 ** 10 }}",
    "{% set x = namespace(v='ab') %}{% for i in range(60) %}{% set x.v = x.v + x.v %}{% endfor %}",
    "{{ raise_exception('no system turn, please' * 1000) }}",
    "{{ messages[9].content }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ 10 ** 10 ** 10 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ '%1000000000d' % 1 }}",
    "{% include '/etc/passwd' %}",
    "{{ (1).__init__.__globals__ }}",
    "{{ '\\ud800' }}",
    "{{ messages | tojson(indent=999999999) }}",
    "{% if %}",
    "{{ strftime_now('%' * 5000) }}",
    "{{ strftime_now('\\ud800') }}",
    "{{ range(10 ** 9) | list | length }}",
    "{{ lipsum(n=100000) }}",
    "{{ [1, 2] | random }}" * 2000,
    "{{ self }}{{ caller() }}",
    "",
    "   ",
)


def whole(folder: Path, is_indexed: bool = False) -> Path:
    """Returns a copy of the shipped base, with a chat template and all small files."""
    path = folder / "checkpoint"
    shutil.copytree(BASE, path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    (path / "special_tokens_map.json").write_text('{"eos_token": "<eos>"}')
    digests.write_digests(path)
    if is_indexed:
        names = shapes(path)
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, "part-1.safetensors")}
        (path / INDEX).write_text(json.dumps(index))
        (path / "model.safetensors").rename(path / "part-1.safetensors")
    return path


def read_all(path: Path) -> dict[str, Any]:
    """Reads a checkpoint as the commands do before work starts."""
    checkpoint = open_checkpoint(path)
    own = asked.own_tokenizer(path)
    _ = named_ends(path), read_template(path), saved_checkpoints(path)
    digests.check_digests(path)
    check_vocabulary(path, ["a", "b"])
    check_end_token(path, "<eos>")
    _ = same_architecture(path, BASE), context_length(read_config(path))
    config = PromptConfig(template="chat" if read_template(path) else "plain")
    ids = prompt_ids(own.tokenizer, "a b", config)
    check_loadable(path)
    return {"checkpoint": checkpoint, "ends": own.ends, "ids": ids}


def small_files(folder: Path, rng: Random) -> Case:
    path = whole(folder)
    (path / "digests.json").unlink()
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
    name = rng.choice((*names, *names, "special_tokens_map.json", "chat_template.jinja"))
    what = damage_file(path / name, rng, is_json=name.endswith(".json"))

    def wrong(read: dict[str, Any]) -> str | None:
        size = json.loads((BASE / "config.json").read_text())["vocab_size"]
        beyond = [id for id in (*read["ends"], *read["ids"]) if not 0 <= id < size]
        return f"token ids beyond the vocabulary: {beyond[:5]}" if beyond else None

    return Case(f"checkpoint {name}", what, lambda: read_all(path), wrong)


def weights(folder: Path, rng: Random) -> Case:
    """Damaged headers and files of weights, which digests.json does not cover here."""
    path = whole(folder)
    (path / "digests.json").unlink()
    file = path / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    draw = rng.random()
    if draw < 0.1:
        what = replaced(file, rng)
    elif draw < 0.3:
        what, data = damaged_bytes(data, rng)
        file.write_bytes(data)
    elif draw < 0.4:
        new = rng.choice((0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1))
        what = f"header of {new} bytes"
        file.write_bytes(new.to_bytes(8, "little") + data[8:])
    else:
        what, header = _damaged_header(header, len(body), rng)
        text = dumped(header, rng)
        file.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return Case("checkpoint weights", what, lambda: read_all(path), lambda _: _wrong_weights(file))


def _damaged_header(header: dict[str, Any], body: int, rng: Random) -> tuple[str, Any]:
    names = [name for name in header if name != "__metadata__"]
    name, other = rng.choice(names), rng.choice(names)
    how = rng.choice(("offsets", "overlap", "dtype", "shape", "rename", "value", "metadata"))
    entry = header[name]
    if how == "offsets":
        entry["data_offsets"] = rng.choice(
            ([0, 0], [-4, 8], [body, body + 4], [8, 4], [0, 2**63], [0.5, 4], [], "0", None)
        )
    elif how == "overlap":
        entry["data_offsets"] = header[other]["data_offsets"]
    elif how == "dtype":
        entry["dtype"] = rng.choice(("F16", "BF16", "I8", "F8_E4M3", "U8", "X", None, 3))
    elif how == "shape":
        entry["shape"] = rng.choice(([], [2**62, 4], [-1], entry["shape"][::-1], [0], None, ["4"]))
    elif how == "rename":
        header[rng.choice((f"{name}2", other, "", "x" * 5000))] = header.pop(name)
    elif how == "metadata":
        header["__metadata__"] = rng.choice(({"a": 1}, [], None, {"format": "tf"}, "x"))
    else:
        return damaged_value(header, rng)
    return f"{how} of {name}", header


def _wrong_weights(file: Path) -> str | None:
    """Reads an accepted file with a reader of our own."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    ends = [0, *(end for _, end in spans)]
    if [start for start, _ in spans] != ends[:-1] or ends[-1] != len(data) - 8 - size:
        return "tensors that overlap, or bytes that belong to none"
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if end - start != 4 * math.prod(entry["shape"]):
            return f"{name} of {end - start} bytes for shape {entry['shape']}"
    good = (BASE / "model.safetensors").read_bytes()
    known = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    if {n: e["shape"] for n, e in header.items()} != {
        n: e["shape"] for n, e in known.items() if n != "__metadata__"
    }:
        return "other tensors than the model has"
    return None


def index(folder: Path, rng: Random) -> Case:
    path = whole(folder, is_indexed=True)
    (path / "digests.json").unlink()
    file = path / INDEX
    content = json.loads(file.read_text())
    draw = rng.random()
    if draw < 0.5:
        name = rng.choice(list(content["weight_map"]))
        to = rng.choice(
            ("../x.safetensors", "/etc/passwd", "", ".", "..", "config.json", "a\0b", 3)
        )
        if rng.random() < 0.3:
            content["weight_map"][rng.choice(("extra.weight", "", "\ud800"))] = "part-1.safetensors"
        else:
            content["weight_map"][name] = to
        what = f"{name} in {to!r}"
        file.write_text(json.dumps(content))
    elif draw < 0.6:
        os.symlink("part-1.safetensors", path / "part-2.safetensors")
        content["weight_map"][rng.choice(list(content["weight_map"]))] = "part-2.safetensors"
        file.write_text(json.dumps(content))
        what = "a tensor in a link to the same file"
    else:
        what = damage_file(file, rng)
    return Case("checkpoint index", what, lambda: read_all(path))


def recorded(folder: Path, rng: Random) -> Case:
    """Files that forkdiv wrote beside checkpoints: digests.json, and saves.json of a run."""
    run = folder / "run"
    path = whole(folder)
    run.mkdir()
    path.rename(run / "epoch-0003")
    path = run / "epoch-0003"
    (run / "saves.json").write_text('{"epoch-0003": 3.0}')
    name = rng.choice(("digests", "digests", "saves", "weights"))
    file = {
        "digests": path / "digests.json",
        "saves": run / "saves.json",
        "weights": path / "model.safetensors",
    }[name]
    before = file.read_bytes()
    what = damage_file(file, rng, is_json=name != "weights")

    def read() -> Any:
        saved = saved_checkpoints(run)
        for each in saved[1].values():
            open_checkpoint(each)
            digests.check_digests(each)
        return saved

    def wrong(saved: Any) -> str | None:
        if name == "weights" and file.read_bytes() != before:
            return "changed weights were accepted, although digests.json is there"
        if not saved[1]:
            return "no checkpoint, and no word"
        return None

    return Case(
        f"checkpoint {name}.json" * (name != "weights") or "changed weights", what, read, wrong
    )


def template(folder: Path, rng: Random) -> Case:
    from forkdiv.core.chat import pack

    path = whole(folder)
    text = TEMPLATE
    if rng.random() < 0.5:
        what = text = rng.choice(BAD_TEMPLATES)
    else:
        what, data = damaged_bytes(text.encode(), rng)
        text = data.decode("utf-8", "replace")
    turns = [
        {"role": "user", "content": rng.choice(("hi", "", "\u202ea", "{{ 1 }}", "x" * 10_000))}
    ]
    config = PromptConfig(template="chat", chat_template=text + "{# #}")
    tokenizer = asked.own_tokenizer(path).tokenizer

    def read() -> list[int]:
        return prompt_ids(tokenizer, pack(turns), config)

    return Case("template", what, read)
