"""Errors a user can act on. Each says what is wrong, what came, what is allowed, what to do."""

from __future__ import annotations


class UserError(Exception):
    """Bad input, found before any work started. The command line exits with status 2."""


class InvalidResult(Exception):
    """Work ran but its result cannot be trusted (a failed grader, a failed swap proof)."""


def refuse(wrong: str, came: object, allowed: str, remedy: str) -> UserError:
    """Build the one-line message every refusal of forkdiv follows."""
    return UserError(f"{wrong}: got {came}; allowed: {allowed}; {remedy}")
