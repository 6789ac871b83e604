"""Explains why two results have different fingerprints: the fields of their records that differ.

A result is looked up by its fingerprint, the hash of everything that decides it. If work is
repeated although a result seems to exist, the two records show which setting, parent or library
differs. Works on artifacts (`record.json`), sample sets (`identity.json`) and studies
(`summary.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core import store_record
from forkdiv.core.config.study import NOT_IDENTITY
from forkdiv.core.errors import refuse
from forkdiv.core.store_record import RECORD

SAMPLES_RECORD, SUMMARY = "identity.json", "summary.json"
STUDY = "study"
# the value of a field that only the other record has; a setting that was added later is recorded
# only if it differs from its default
ABSENT = "(absent)"


@dataclass(frozen=True)
class Record:
    """The inputs of a result. `parents` maps roles to fingerprints."""

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
    """A field that differs, in dotted notation, with each side's value as JSON or ABSENT."""

    field: str
    first: str
    second: str


@dataclass(frozen=True)
class Results:
    """The results under an output folder: its store, and the studies beside it. `records` is a
    folder with the records of a store that is elsewhere."""

    root: Path
    records: Path | None = None

    @property
    def store(self) -> Path:
        return self.records or self.root / "store"

    def folders(self) -> Iterator[Path]:
        """Yields every folder that has a record, artifacts first."""
        for name in (RECORD, SAMPLES_RECORD):
            for record in sorted(self.store.glob(f"*/*/{name}")):
                if record.relative_to(self.store).parts[0] != "work":
                    yield record.parent
        for record in sorted(self.root.glob(f"*/{SUMMARY}")):
            yield record.parent

    def find(self, fingerprint: str) -> Path | None:
        """Returns the folder of an artifact or a sample set with this full fingerprint, or None."""
        return next(iter(self.store.glob(f"[!w]*/{fingerprint}")), None)

    def resolve(self, reference: str) -> Record:
        """Returns the result that `reference` names: a folder, a fingerprint or a prefix of one.

        Raises UserError if no result or more than one matches.
        """
        if (folder := Path(reference)).is_dir():
            record = read(folder)
            stored = self.find(record.fingerprint) if record.stage == STUDY else None
            return read(stored) if stored else record  # a summary lacks some of the hashed fields
        matches: dict[str, Path] = {}
        for folder in self.folders():
            fingerprint = _fingerprint_of(folder)
            if fingerprint.startswith(reference.lower()):
                matches.setdefault(fingerprint, folder)
        if len(matches) == 1:
            return read(next(iter(matches.values())))
        if not matches:
            raise refuse(
                f"no result under {self.root} has a fingerprint that starts with this",
                reference,
                "a fingerprint, a prefix of a fingerprint, or a result's folder",
                "list the results with `forkdiv store ls`, or set place.root (and place.store) to "
                "those of the results",
            )
        names = [f"{path.parent.name} {key[:12]}" for key, path in matches.items()]
        raise refuse(
            f"{len(matches)} results have a fingerprint that starts with this",
            reference,
            f"one of {', '.join(names[:5])}{' …' if len(names) > 5 else ''}",
            "give more digits",
        )

    def nearest(self, record: Record) -> Record | None:
        """Returns the result of the same stage that differs in the fewest fields, or None. Ties go
        to the result with more parents in common, then to the newest."""
        others = [
            read(folder)
            for folder in self.folders()
            if _stage_of(folder) == record.stage and folder.resolve() != record.path.resolve()
        ]
        return min(
            (other for other in others if other.fingerprint != record.fingerprint),
            key=lambda other: (self._distance(record, other), -other.path.stat().st_mtime),
            default=None,
        )

    def _distance(self, first: Record, second: Record) -> tuple[int, int]:
        parents = [
            difference
            for difference in differences(first, second)
            if difference.field.startswith("parents.")
        ]
        fields = sum(1 for line in self.explain(first, second) if " -> " in line)
        return fields, len(parents)

    def explain(self, first: Record, second: Record) -> list[str]:
        """Returns the differences as lines; below a parent that differs, its own differences are
        indented."""
        return list(self._explained(first, second, "", set()))

    def _explained(
        self, first: Record, second: Record, indent: str, seen: set[tuple[str, str]]
    ) -> Iterator[str]:
        fields = differences(first, second)
        if not fields:
            yield f"{indent}the two records do not differ in any field"
        for difference in fields:
            role = difference.field.removeprefix("parents.")
            if role == difference.field:
                yield f"{indent}{role}: {difference.first} -> {difference.second}"
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
        """A parent is an artifact, a checkpoint in an artifact (FINGERPRINT-epoch-0004), or the
        content of a model folder, which has no record."""
        (left, left_checkpoint), (right, right_checkpoint) = map(_split, pair)
        if left_checkpoint != right_checkpoint:
            yield f"{indent}checkpoint: {left_checkpoint or ABSENT} -> {right_checkpoint or ABSENT}"
        if left == right:
            return
        paths = [self.find(parent) if parent else None for parent in (left, right)]
        for fingerprint, path in zip((left, right), paths, strict=True):
            if fingerprint and path is None:
                yield (
                    f"{indent}{fingerprint[:8]} has no record under {self.root}: it is the content "
                    "of a model folder, or its result was deleted"
                )
        if paths[0] and paths[1]:
            yield from self._explained(read(paths[0]), read(paths[1]), indent, seen)


def read(folder: Path) -> Record:
    """Returns the record of a result's folder.

    Raises UserError if the folder has no record, and InvalidResult if the record is damaged.
    """
    for name, build in ((RECORD, _artifact), (SAMPLES_RECORD, _samples), (SUMMARY, _study)):
        if not (folder / name).is_file():
            continue
        with store_record.reading(folder / name, folder):
            return build(folder, store_record.read_json(folder / name))
    raise refuse(
        "this folder is not a forkdiv result",
        folder,
        f"a folder with {RECORD}, {SAMPLES_RECORD} or {SUMMARY}",
        "use a folder in the store, such as runs/store/train/…, or the folder of a study",
    )


def differences(first: Record, second: Record) -> list[Difference]:
    """Returns the fields that differ, in the order stage, version, config, parents, libraries."""
    sides = [_flat(record) for record in (first, second)]
    fields = list(dict.fromkeys([*sides[0], *sides[1]]))
    order = ("stage", "version", "config", "parents", "libraries")
    fields.sort(key=lambda field: order.index(field.partition(".")[0]))
    return [
        Difference(field, *(side.get(field, ABSENT) for side in sides))
        for field in fields
        if sides[0].get(field, ABSENT) != sides[1].get(field, ABSENT)
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
        stage=str(identity["stage"]),
        fingerprint=str(fingerprint),
        path=folder,
        version=int(identity["version"]),
        config=dict(identity["config"]),
        parents={role: str(parent) for role, parent in identity["parents"].items()},
        libraries=dict(identity["libraries"]),
    )


def _study(folder: Path, summary: Mapping[str, Any]) -> Record:
    settings = summary["settings"]
    return Record(
        stage=STUDY,
        fingerprint=str(summary["fingerprint"]),
        path=folder,
        version=None,
        config={key: value for key, value in settings.items() if key not in NOT_IDENTITY},
        parents={},
        libraries=dict(summary["versions"]),
    )


def _stage_of(folder: Path) -> str:
    return STUDY if (folder / SUMMARY).is_file() else folder.parent.name


def _fingerprint_of(folder: Path) -> str:
    return read(folder).fingerprint if (folder / SUMMARY).is_file() else folder.name


def _split(parent: str) -> tuple[str, str]:
    """Returns the fingerprint of a parent and the checkpoint in it, "" if it names none."""
    fingerprint, _, checkpoint = parent.partition("-")
    return fingerprint, checkpoint


def _short(parent: str) -> str:
    fingerprint, checkpoint = _split(parent)
    return f"{fingerprint[:8]} {checkpoint}".strip() or ABSENT
