"""Why two results have different fingerprints: the fields of their records that differ.

A result is found by its fingerprint, the hash of what decides it. Where work is done again
although a result seems to be there, the two records tell which setting, parent or library made
the difference. Works on artifacts (`record.json`), sample sets (`identity.json`) and studies
(`summary.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.store import RECORD

SAMPLES_RECORD, SUMMARY = "identity.json", "summary.json"
STUDY = "study"
# what a summary's settings hold beside what decides the numbers
NO_IDENTITY = {"name", "base", "data", "audit", "plan", "place", "checkpoint", "pretrain"}
LEFT_OUT = "(not there)"  # in one record only: settings at a default that came later are left out


@dataclass(frozen=True)
class Record:
    """What a result follows from. `parents` are fingerprints by role."""

    stage: str
    fingerprint: str
    path: Path
    version: int | None
    config: Mapping[str, Any]
    parents: Mapping[str, str]
    libraries: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.stage} {self.fingerprint[:8]}"


@dataclass(frozen=True)
class Difference:
    """A field that differs, dotted, with the value on each side as JSON or LEFT_OUT."""

    field: str
    first: str
    second: str


@dataclass(frozen=True)
class Results:
    """The results under an output folder: its store, and the studies beside it."""

    root: Path

    def folders(self) -> Iterator[Path]:
        """Everything that has a record, artifacts first."""
        for pattern in (f"store/*/*/{RECORD}", f"store/*/*/{SAMPLES_RECORD}", f"*/{SUMMARY}"):
            for record in sorted(self.root.glob(pattern)):
                if record.relative_to(self.root).parts[1:2] != ("work",):
                    yield record.parent

    def find(self, fingerprint: str) -> Path | None:
        """The folder of an artifact or a sample set, by its whole fingerprint."""
        return next(iter(self.root.glob(f"store/[!w]*/{fingerprint}")), None)

    def named(self, word: str) -> Record:
        """The result that `word` means: a folder, a fingerprint, or the beginning of one.

        Raises UserError where there is none, or more than one.
        """
        if (folder := Path(word)).is_dir():
            own = read(folder)
            stored = self.find(own.fingerprint) if own.stage == STUDY else None
            return read(stored) if stored else own  # a summary does not hold all that is hashed
        found: dict[str, Path] = {}
        for folder in self.folders():
            fingerprint = _fingerprint_of(folder)
            if fingerprint.startswith(word.lower()):
                found.setdefault(fingerprint, folder)
        if len(found) == 1:
            return read(next(iter(found.values())))
        if not found:
            raise refuse(
                f"there is no result under {self.root} whose fingerprint begins so",
                word,
                "a fingerprint, the beginning of one, or a result's folder",
                "list them with `ls`, or set place.root to the output folder that holds it",
            )
        some = ", ".join(f"{path.parent.name} {key[:12]}" for key, path in list(found.items())[:5])
        raise refuse(
            f"{len(found)} results begin so",
            word,
            f"one of {some}{' …' if len(found) > 5 else ''}",
            "give more digits",
        )

    def nearest(self, record: Record) -> Record | None:
        """The result of the same stage that differs in the fewest fields; of several the one
        that is made of the same parents, then the newest."""
        others = [
            read(folder)
            for folder in self.folders()
            if _stage_of(folder) == record.stage and folder.resolve() != record.path.resolve()
        ]
        return min(
            (one for one in others if one.fingerprint != record.fingerprint),
            key=lambda one: (self._distance(record, one), -one.path.stat().st_mtime),
            default=None,
        )

    def _distance(self, first: Record, second: Record) -> tuple[int, int]:
        own = differences(first, second)
        parents = [one for one in own if one.field.startswith("parents.")]
        deep = sum(1 for line in self.explain(first, second) if " -> " in line)
        return deep, len(parents)

    def explain(self, first: Record, second: Record) -> list[str]:
        """What differs, in lines; where parents do, what differs in them, indented."""
        return list(self._explained(first, second, "", set()))

    def _explained(
        self, first: Record, second: Record, indent: str, seen: set[tuple[str, str]]
    ) -> Iterator[str]:
        found = differences(first, second)
        if not found:
            yield f"{indent}no field of the two records differs"
        for one in found:
            role = one.field.removeprefix("parents.")
            if role == one.field:
                yield f"{indent}{one.field}: {one.first} -> {one.second}"
                continue
            pair = (first.parents.get(role, ""), second.parents.get(role, ""))
            yield f"{indent}{role} differs: {_short(pair[0])} and {_short(pair[1])}"
            if pair in seen:
                yield f"{indent}  (explained above)"
                continue
            seen.add(pair)
            yield from self._parents_explained(pair, f"{indent}  ", seen)

    def _parents_explained(
        self, pair: tuple[str, str], indent: str, seen: set[tuple[str, str]]
    ) -> Iterator[str]:
        """A parent is an artifact, a checkpoint in one (FINGERPRINT-epoch-0004), or the content
        of a model folder, which has no record."""
        (left, left_at), (right, right_at) = (_split(one) for one in pair)
        if left_at != right_at:
            yield f"{indent}checkpoint: {left_at or LEFT_OUT} -> {right_at or LEFT_OUT}"
        if left == right:
            return
        paths = [self.find(one) if one else None for one in (left, right)]
        for fingerprint, path in zip((left, right), paths, strict=True):
            if fingerprint and path is None:
                yield (
                    f"{indent}{fingerprint[:8]} has no record under {self.root}: the content of a "
                    "model folder, or a result that was deleted"
                )
        if paths[0] and paths[1]:
            yield from self._explained(read(paths[0]), read(paths[1]), indent, seen)


def read(folder: Path) -> Record:
    """The record of a result's folder.

    Raises UserError where it has none, and InvalidResult where it is damaged.
    """
    for name, build in ((RECORD, _artifact), (SAMPLES_RECORD, _samples), (SUMMARY, _study)):
        if not (folder / name).is_file():
            continue
        try:
            return build(folder, json.loads((folder / name).read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidResult(
                f"{folder / name} is damaged ({type(error).__name__} {error}); delete {folder} to "
                "have it made again"
            ) from error
    raise refuse(
        "this folder is no result of forkdiv's",
        folder,
        f"a folder with {RECORD}, {SAMPLES_RECORD} or {SUMMARY}",
        "name one in the store, such as runs/store/train/…, or a study's folder",
    )


def differences(first: Record, second: Record) -> list[Difference]:
    """The fields that differ, in the order stage, version, config, parents, libraries."""
    sides = [_flat(one) for one in (first, second)]
    fields = list(dict.fromkeys([*sides[0], *sides[1]]))
    order = ("stage", "version", "config", "parents", "libraries")
    fields.sort(key=lambda field: order.index(field.partition(".")[0]))
    return [
        Difference(field, *(side.get(field, LEFT_OUT) for side in sides))
        for field in fields
        if sides[0].get(field, LEFT_OUT) != sides[1].get(field, LEFT_OUT)
    ]


def _flat(record: Record) -> dict[str, str]:
    content = {
        "stage": record.stage,
        "version": record.version,
        "config": record.config,
        "parents": record.parents,
        "libraries": record.libraries,
    }
    return dict(_leaves("", content))


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else key, inner)
    elif value is not None or "." in prefix:
        yield prefix, json.dumps(value, ensure_ascii=False)


def _artifact(folder: Path, record: Mapping[str, Any]) -> Record:
    return _identified(folder, record["fingerprint"], record["identity"])


def _samples(folder: Path, identity: Mapping[str, Any]) -> Record:
    return _identified(folder, folder.name, identity)


def _identified(folder: Path, fingerprint: str, identity: Mapping[str, Any]) -> Record:
    return Record(
        stage=identity["stage"],
        fingerprint=fingerprint,
        path=folder,
        version=identity["version"],
        config=identity["config"],
        parents=identity["parents"],
        libraries=identity["libraries"],
    )


def _study(folder: Path, summary: Mapping[str, Any]) -> Record:
    settings = summary["settings"]
    return Record(
        stage=STUDY,
        fingerprint=summary["fingerprint"],
        path=folder,
        version=None,
        config={key: value for key, value in settings.items() if key not in NO_IDENTITY},
        parents={},
        libraries=summary["versions"],
    )


def _stage_of(folder: Path) -> str:
    return STUDY if (folder / SUMMARY).is_file() else folder.parent.name


def _fingerprint_of(folder: Path) -> str:
    return read(folder).fingerprint if (folder / SUMMARY).is_file() else folder.name


def _split(parent: str) -> tuple[str, str]:
    """The fingerprint of a parent, and the checkpoint in it that is meant, if it names one."""
    fingerprint, _, checkpoint = parent.partition("-")
    return fingerprint, checkpoint


def _short(parent: str) -> str:
    fingerprint, checkpoint = _split(parent)
    return f"{fingerprint[:8]} {checkpoint}".strip() or LEFT_OUT
