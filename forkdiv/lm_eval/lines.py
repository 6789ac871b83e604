"""A line of a samples file, checked: what was asked, what is right, and every response."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.own_data.file import quoted

REQUIRED = ("doc_id", "target", "resps")
VERDICTS = "verdicts"  # a key of ours: what became of each response
# keys that are no metric, in files that do not list theirs
OTHERS = {
    *REQUIRED,
    VERDICTS,
    "doc",
    "arguments",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "valid_solutions",
}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SampleLine:
    """One document under one filter. `kept` is what the filter left of the responses: a text, a
    list of them, or None. `settings` are the generation arguments, empty where not known."""

    where: str
    doc_id: int
    filter: str
    doc: Mapping[str, Any]
    target: str
    prompt: str
    responses: tuple[str, ...]
    kept: str | list[str] | None
    metrics: Mapping[str, Any]
    settings: Mapping[str, Any]
    verdicts: tuple[Verdict, ...] | None
    valid: int | None

    @property
    def content(self) -> str:
        """What makes it the same problem in another file: its document, whatever the prompt."""
        return digest(dict(self.doc) if self.doc else self.prompt)

    @property
    def draw(self) -> str:
        """Of the responses, in their order."""
        return digest(self.responses)

    def per_sample(self, metric: str) -> list[bool] | None:
        """The metric's verdict on each response, where it has one for each; else None."""
        value = self.metrics.get(metric)
        values = value if isinstance(value, list) else [value]
        if len(values) != len(self.responses) or not all(_is_verdict(one) for one in values):
            return None
        return [bool(one) for one in values]


def read(path: Path) -> Iterator[SampleLine]:
    """The file's lines, as they come. Raises UserError, naming file and line, for the first that
    is not of the tool's form, and for a file without any."""
    some = False
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if raw.strip():
                    some = True
                    yield _line(f"line {number} of {path}", raw.removeprefix(_BOM))
    except OSError as error:
        raise refuse(
            "a samples file cannot be read", f"{path} ({error.strerror})", "a file", "check it"
        ) from error
    if not some:
        raise refuse(
            "a samples file is empty", path, "a line per document", "run lm_eval --log_samples"
        )


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _line(where: str, raw: bytes) -> SampleLine:
    row = _object(where, raw)
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        came = f"the keys {', '.join(map(str, row))}"
        raise _unlike(f"{where} lacks {' and '.join(map(repr, missing))}", came)
    responses = _responses(where, row["resps"])
    names = row.get("metrics")
    if not isinstance(names, list):
        names = [key for key in row if key not in OTHERS]
    doc = row.get("doc")
    prompt, settings = _asked(row.get("arguments"))
    return SampleLine(
        where=where,
        doc_id=_whole(where, row["doc_id"]),
        filter=str(row.get("filter", "none")),
        doc=doc if isinstance(doc, dict) else {},
        target=_target(where, row["target"]),
        prompt=prompt,
        responses=responses,
        kept=_kept(row.get("filtered_resps")),
        metrics={name: row[name] for name in names if isinstance(name, str) and name in row},
        settings=settings,
        verdicts=_verdicts(where, row.get(VERDICTS), len(responses)),
        valid=row.get("valid_solutions"),
    )


def _object(where: str, raw: bytes) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        came = quoted(raw.decode("utf-8", "replace").strip(), 60)
        raise _unlike(f"{where} is not JSON ({error})", came) from error
    if not isinstance(row, dict):
        raise _unlike(f"{where} is no object", quoted(str(row), 60))
    return row


def _responses(where: str, resps: Any) -> tuple[str, ...]:
    if not (isinstance(resps, list) and resps and all(isinstance(one, list) for one in resps)):
        raise _unlike(f"{where} has `resps` of another form", quoted(str(resps), 60))
    if len(resps) > 1 or any(isinstance(one, list) for one in resps[0]):
        raise refuse(
            f"{where} holds likelihoods of given choices, not samples",
            f"{len(resps)} requests for one document",
            "generated text (output_type: generate_until)",
            "run a task that generates",
        )
    (texts,) = resps
    if not texts or not all(isinstance(text, str) for text in texts):
        at = next((i for i, text in enumerate(texts, 1) if not isinstance(text, str)), 0)
        came = f"response {at} is {quoted(str(texts[at - 1]), 40)}" if at else "no response"
        raise refuse(
            f"{where} has a response that is no text", came, "text", "run that document again"
        )
    return tuple(texts)


def _whole(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _unlike(f"{where} has a `doc_id` that is no whole number", repr(value))
    return value


def _target(where: str, value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise refuse(
            f"{where} has a target that is no text",
            quoted(str(value), 60),
            "one reference answer",
            "set task.kind=file and task.columns.answer to the key of `doc` that holds it",
        )
    return str(value)


def _asked(arguments: Any) -> tuple[str, Mapping[str, Any]]:
    """Prompt and generation arguments; earlier releases wrote a list of lists."""
    if isinstance(arguments, dict):
        first = arguments.get("gen_args_0", {})
        given = list(first.values()) if isinstance(first, dict) else []
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else []
        given = first if isinstance(first, list) else []
    prompt = given[0] if given else ""
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt  # as chat APIs are asked: the messages as one text
    settings = given[1] if len(given) > 1 and isinstance(given[1], dict) else {}
    return (prompt if isinstance(prompt, str) else json.dumps(prompt)), settings


def _kept(filtered: Any) -> str | list[str] | None:
    first = filtered[0] if isinstance(filtered, list) and len(filtered) == 1 else None
    return first if isinstance(first, str | list) else None


def _verdicts(where: str, found: Any, n: int) -> tuple[Verdict, ...] | None:
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != n:
        came = f"{len(found) if isinstance(found, list) else found} for {n} responses"
        raise _unlike(f"{where} has no verdict for each response", came)
    try:
        return tuple(
            Verdict(
                Outcome(one["outcome"]),
                one.get("answer"),
                one.get("detail") or "",
                one.get("mode") or "",
            )
            for one in found
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unlike(f"{where} has a verdict of another form", quoted(str(error), 60)) from error


def _is_verdict(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)


def _unlike(wrong: str, came: str) -> UserError:
    allowed = "a line as lm_eval --log_samples writes it"
    return refuse(wrong, came, allowed, "mend the file or run the tool again")
