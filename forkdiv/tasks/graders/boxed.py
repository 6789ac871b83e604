"""The last `\\boxed{}` or `\\fbox{}` of a response."""

from __future__ import annotations

from forkdiv.tasks.graders import answers
from forkdiv.tasks.graders.base import CORRECT, UNPARSABLE, WRONG, Reader
from forkdiv.tasks.graders.latex import has_box, last_box


class Boxed(Reader):
    name = "boxed"
    version = 2
    canaries = (
        ("143", "so \\boxed{143}", CORRECT),
        ("0.5", "\\boxed{\\dfrac{1}{2}}", CORRECT),
        ("7A", "\\boxed{1} no, \\boxed{\\text{7A}}.", CORRECT),
        ("\\frac{x}{2}", "$\\fbox{$ \\tfrac{x}{2} $}$", CORRECT),
        ("5/2", "\\boxed{2\\frac{1}{2}\\text{ cm}}", CORRECT),
        ("7A", "\\boxed{7}", WRONG),
        ("1E2", "\\boxed{100}", WRONG),
        ("12", "\\boxed{1 2}", WRONG),
        ("143", "The answer is 143", UNPARSABLE),
        ("143", "so \\boxed{14", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        """Accepts an answer, or a whole solution with a box."""
        return self._content(last_box(answer) if has_box(answer) else answer)

    def read(self, text: str) -> str:
        return self._content(last_box(text))

    def _content(self, text: str) -> str:
        return str(answers.read(text, e_notation=False))
