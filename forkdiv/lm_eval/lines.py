"""A checked line of a samples file: the prompt, the reference answer, and every response."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config.decoder import KNOBS, lm_eval_name
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.files import require_regular
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.own_data.file import quoted

REQUIRED = ("doc_id", "target", "resps")
VERDICTS = "verdicts"  # written by forkdiv only: the verdict on each response
# Keys that are not metrics. Needed for files without a `metrics` list.
NOT_METRICS = {
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
    "right_answers",
}
_BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 2**29  # bytes: thousands of long responses fit
# generation arguments that must be equal for two models, and for all lines of one model
DECODER_SETTINGS = (
    "do_sample",
    *(lm_eval_name(name) for name, knob in KNOBS.items() if knob.shapes),
)


@dataclass(frozen=True, slots=True)
class SampleLine:
    """One document under one filter.

    `location` names the line and its file in messages. `filtered` is the output of the filter:
    one text, a list of texts, or None. `settings` are the generation arguments; empty if the
    line does not contain them. `right_answers` are in the form of the verdicts' answers.
    """

    location: str
    doc_id: int
    filter: str
    doc: Mapping[str, Any]
    target: str
    prompt: str
    responses: tuple[str, ...]
    filtered: str | list[str] | None
    metrics: Mapping[str, Any]
    settings: Mapping[str, Any]
    verdicts: tuple[Verdict, ...] | None
    valid: int | None
    right_answers: tuple[str, ...] = ()

    @property
    def content_digest(self) -> str:
        """Identifies the same problem in another file: a digest of the document, or of the
        prompt if the line has no document."""
        return digest(dict(self.doc) if self.doc else self.prompt)

    @property
    def responses_digest(self) -> str:
        """A digest of the responses in their order."""
        return digest(self.responses)

    def per_sample(self, metric: str) -> list[bool] | None:
        """Returns the metric's verdict on each response, or None if it does not have one for
        each."""
        value = self.metrics.get(metric)
        values = value if isinstance(value, list) else [value]
        if len(values) != len(self.responses) or not all(_is_verdict(entry) for entry in values):
            return None
        return [bool(entry) for entry in values]


def read(path: Path) -> Iterator[SampleLine]:
    """Yields the lines of a file in order.

    Raises UserError, which names file and line, for the first line that is not in the format of
    lm_eval, and for an empty file.
    """
    has_lines = False
    require_regular(path, "a samples file cannot be read", "correct the path")
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(iter(lambda: lines.readline(LONGEST_LINE + 1), b""), 1):
                if len(raw) > LONGEST_LINE:
                    came = f"more than {LONGEST_LINE:,} bytes"
                    raise _malformed(f"line {number} of {path} is too long", came)
                if raw.strip():
                    has_lines = True
                    yield _line(f"line {number} of {path}", raw.removeprefix(_BOM))
    except OSError as error:
        raise refuse(
            "a samples file cannot be read",
            f"{path} ({error.strerror})",
            "a readable file",
            "check the path and its permissions",
        ) from error
    if not has_lines:
        raise refuse(
            "a samples file is empty",
            path,
            "one line for each document",
            "run lm_eval with --log_samples",
        )


def decoder_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the generation arguments that change the sampled distribution."""
    return {name: settings[name] for name in DECODER_SETTINGS if name in settings}


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _line(location: str, raw: bytes) -> SampleLine:
    row = _object(location, raw)
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        came = f"the keys {', '.join(map(str, row))}"
        raise _malformed(f"{location} lacks {' and '.join(map(repr, missing))}", came)
    responses = _responses(location, row["resps"])
    names = row.get("metrics")
    if not isinstance(names, list):
        names = [key for key in row if key not in NOT_METRICS]
    doc = row.get("doc")
    prompt, settings = _prompt_and_settings(row.get("arguments"))
    _check_temperature(location, settings)
    return SampleLine(
        location=location,
        doc_id=_whole(location, row["doc_id"]),
        filter=str(row.get("filter", "none")),
        doc=doc if isinstance(doc, dict) else {},
        target=_target(location, row["target"]),
        prompt=prompt,
        responses=responses,
        filtered=_filtered(row.get("filtered_resps")),
        metrics={name: row[name] for name in names if isinstance(name, str) and name in row},
        settings=settings,
        verdicts=_verdicts(location, row.get(VERDICTS), len(responses)),
        valid=_valid_solutions(location, row.get("valid_solutions")),
        right_answers=_right_answers(location, row.get("right_answers")),
    )


def _object(location: str, raw: bytes) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        came = quoted(raw.decode("utf-8", "replace").strip(), 60)
        raise _malformed(f"{location} is not JSON ({error})", came) from error
    if not isinstance(row, dict):
        raise _malformed(f"{location} is not a JSON object", quoted(str(row), 60))
    return row


def _responses(location: str, resps: Any) -> tuple[str, ...]:
    if not (isinstance(resps, list) and resps and all(isinstance(group, list) for group in resps)):
        raise _malformed(
            f"{location} has `resps` that is not a list of lists", quoted(str(resps), 60)
        )
    if len(resps) > 1 or any(isinstance(group, list) for group in resps[0]):
        raise refuse(
            f"{location} contains log-likelihoods of answer choices, not samples",
            f"{len(resps)} requests for one document",
            "generated text (output_type: generate_until)",
            "run a task that generates text",
        )
    (texts,) = resps
    if not texts or not all(isinstance(text, str) for text in texts):
        at = next((i for i, text in enumerate(texts, 1) if not isinstance(text, str)), 0)
        came = f"response {at} is {quoted(str(texts[at - 1]), 40)}" if at else "no response"
        raise refuse(
            f"{location} has a response that is not text",
            came,
            "text",
            "run lm_eval on that document again",
        )
    for at, text in enumerate(texts, 1):
        if not _is_utf8(text):
            raise _malformed(
                f"{location} has an unpaired surrogate in response {at}", quoted(ascii(text))
            )
    return tuple(texts)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_temperature(location: str, settings: Mapping[str, Any]) -> None:
    value = settings.get("temperature")
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _malformed(f"{location} has an impossible temperature", quoted(str(value)))


def _valid_solutions(location: str, value: Any) -> int | None:
    """Returns the number of correct responses that exist; None if the file does not have it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        came = quoted(str(value))
        raise refuse(
            f"{location} has an impossible number of `valid_solutions`",
            came,
            "the number of correct responses that exist for the problem, 1 or more; or null",
            "correct the file, or remove the key",
        )
    return value


def _right_answers(location: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(answer, str) for answer in value):
        raise refuse(
            f"{location} has `right_answers` that are not a list of texts",
            quoted(str(value), 60),
            "the right answers of the problem, as the verdicts have answers; or null",
            "correct the file, or remove the key",
        )
    return tuple(value)


def _whole(location: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _malformed(f"{location} has a `doc_id` that is not an integer", quoted(str(value)))
    return value


def _target(location: str, value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise refuse(
            f"{location} has a target that is not text",
            quoted(str(value), 60),
            "one reference answer",
            "set task.kind=file and task.columns.answer to the key of `doc` that contains it",
        )
    return str(value)


def _prompt_and_settings(arguments: Any) -> tuple[str, Mapping[str, Any]]:
    """Returns prompt and generation arguments; earlier lm_eval releases wrote a list of lists."""
    if isinstance(arguments, dict):
        first = arguments.get("gen_args_0", {})
        parts = list(first.values()) if isinstance(first, dict) else []
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else []
        parts = first if isinstance(first, list) else []
    prompt = parts[0] if parts else ""
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt  # chat models: the messages as one JSON text
    settings = parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else {}
    return (prompt if isinstance(prompt, str) else json.dumps(prompt)), settings


def _filtered(filtered: Any) -> str | list[str] | None:
    first = filtered[0] if isinstance(filtered, list) and len(filtered) == 1 else None
    return first if isinstance(first, str | list) else None


def _verdicts(location: str, value: Any, n: int) -> tuple[Verdict, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != n:
        came = f"{len(value) if isinstance(value, list) else value} for {n} responses"
        raise _malformed(f"{location} does not have one verdict for each response", came)
    try:
        return tuple(
            Verdict(
                Outcome(entry["outcome"]),
                entry.get("answer"),
                entry.get("detail") or "",
                entry.get("mode") or "",
            )
            for entry in value
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _malformed(f"{location} has a malformed verdict", quoted(str(error), 60)) from error


def _is_verdict(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)


def _malformed(wrong: str, came: str) -> UserError:
    allowed = "a line written by lm_eval --log_samples"
    return refuse(wrong, came, allowed, "correct the file or run lm_eval again")
