"""Whether an engine computes what its weights say: a statistical check of its outputs.

The bits of the weights prove each swap (`weight_proof`). That they are all that the engine computes
with is shown once for each engine, by its outputs: with the weights of its first checkpoint, and
after a swap to a copy with strongly changed weights. Both are compared with a forward pass by
transformers. In bfloat16 the two differ by up to 1 nat on single tokens, so that no limit on the
largest difference can tell a right engine from a wrong one; over some hundred tokens, the engine's
change must follow the expected change with slope 1, and deviate from it by no more than the two
deviated before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Measured in float32, bfloat16 and float16 on models of 0.7M and 135M parameters: right engines had
# residuals up to 1.4, slopes within 0.02 of 1 and correlations above 0.996. Engines in which all
# layers of one kind (projections, norms, the embedding, the packed output layer) kept their old
# weights had residuals from 3.3 upwards.
MOST_RESIDUAL = 2.2
MOST_SLOPE_ERROR = 0.1
LEAST_CORRELATION = 0.95
FLOOR = 1e-4  # nats: rounding of float32


@dataclass(frozen=True)
class OutputCheck:
    """What the comparison found.

    `noise`: root mean square of engine − reference before the swap, in nats; `change`: that of the
    expected change; `slope`, `correlation`: of the engine's change on the expected one; `residual`:
    root mean square of their difference, as a multiple of √2 · noise, which independent errors
    before and after would give.
    """

    tokens: int
    noise: float
    change: float
    slope: float
    correlation: float
    residual: float

    @property
    def problems(self) -> list[str]:
        """What is wrong; empty if the engine computes with all of its weights."""
        found = []
        if not np.isfinite([self.noise, self.change, self.slope, self.residual]).all():
            found.append("log-probabilities are not finite")
            return found
        if self.change < 10 * self.noise:
            found.append(
                f"before any swap it deviates from the reference by {self.noise:.3g} nats, where "
                f"strongly changed weights make {self.change:.3g}"
            )
        if abs(self.slope - 1) > MOST_SLOPE_ERROR or self.correlation < LEAST_CORRELATION:
            found.append(
                f"its outputs follow changed weights with slope {self.slope:.3f} and correlation "
                f"{self.correlation:.3f}"
            )
        if self.residual > MOST_RESIDUAL:
            found.append(
                f"after a swap it deviates from the reference {self.residual:.1f} times as much as "
                "before"
            )
        return found


def output_check(
    before: Floats, after: Floats, wanted: Floats, wanted_after: Floats
) -> OutputCheck:
    """Compares the engine's log-probabilities of some tokens `before` and `after` a swap with the
    reference's, `wanted` and `wanted_after`; all have the shape (tokens,)."""
    expected, found = wanted_after - wanted, after - before
    noise = max(_rms(before - wanted), FLOOR)
    power = float(expected @ expected)
    return OutputCheck(
        tokens=len(before),
        noise=noise,
        change=_rms(expected),
        slope=float(expected @ found) / power if power else 0.0,
        correlation=float(np.corrcoef(expected, found)[0, 1]) if power else 0.0,
        residual=_rms(found - expected) / (2**0.5 * noise),
    )


def is_as_before(before: Floats, again: Floats, check: OutputCheck) -> bool:
    """Whether an engine computes `again` as it did `before` with the same weights: its
    log-probabilities of the same tokens may not deviate from the earlier ones by more than those
    deviate from the reference."""
    deviation = _rms(again - before)
    return bool(np.isfinite(deviation)) and deviation <= check.noise


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
