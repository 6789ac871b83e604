"""Errors a user can act on: what is wrong, the value received, what is allowed, what to do."""

from __future__ import annotations

CAME = 1000  # characters of a received value that a message repeats


class UserError(Exception):
    """Invalid input, detected before any work starts. The command line exits with status 2."""


class InvalidResult(Exception):
    """Work ran, but its result cannot be trusted (a grader or a weight-swap check failed)."""


def refuse(wrong: str, came: object, allowed: str, remedy: str) -> UserError:
    """Returns a UserError whose one-line message has the four parts of every refusal."""
    return UserError(f"{wrong}: got {shortened(str(came), CAME)}; allowed: {allowed}; {remedy}")


def shortened(text: str, most: int = 120) -> str:
    """Returns the text, or its beginning and end and its length if it has more than `most`
    characters: a message names a value, it does not repeat a whole file."""
    if len(text) <= most:
        return text
    half = (most - 20) // 2
    return f"{text[:half]} … ({len(text):,} characters) … {text[-half:]}"
