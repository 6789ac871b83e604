"""Errors a user can act on: what is wrong, the value received, what is allowed, what to do."""

from __future__ import annotations


class UserError(Exception):
    """Invalid input, detected before any work starts. The command line exits with status 2."""


class InvalidResult(Exception):
    """Work ran, but its result cannot be trusted (a grader or a weight-swap check failed)."""


def refuse(wrong: str, came: object, allowed: str, remedy: str) -> UserError:
    """Returns a UserError whose one-line message has the four parts of every refusal."""
    return UserError(f"{wrong}: got {came}; allowed: {allowed}; {remedy}")
