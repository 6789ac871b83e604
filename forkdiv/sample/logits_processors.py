"""The decoders that vLLM does not have, as a logits processor of its 0.29 interface.

vLLM imports this in its engine's process and runs it on raw logits, before the temperature. What
a request wants stands in its `SamplingParams.extra_args`, flat, under the names of `ARGUMENTS`:

- `top_n_sigma`: keep the logits within so many standard deviations of the largest;
- `gate_entropy` and `cold_temperature`: where the entropy is lower (nats), sample at the cold
  temperature instead of the request's own, which is the hot one;
- `first_tokens` K, `first_index` and `first_seed`: response i of the request begins with the
  model's likeliest token number (first_index + i) mod K. vLLM gives responses of one request
  the seeds first_seed + i, which is how i is known here.

`forkdiv.models.decoding` says the same in numpy. Nothing here may import Ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

# the groups of arguments that come together
ARGUMENTS = (
    ("top_n_sigma",),
    ("gate_entropy", "cold_temperature"),
    ("first_tokens", "first_index", "first_seed"),
)


@dataclass(frozen=True)
class _Row:
    """What one row of the batch wants; None where it does not want it."""

    sigma: float | None
    gate: tuple[float, float] | None  # entropy, and what cold logits are multiplied by
    first: int | None  # rank of the first token
    output: list[int]  # vLLM's own list, which grows


class DecoderProcessor(LogitsProcessor):  # type: ignore[misc]  # vLLM's types are not read
    """All rows of the batch at once; rows without arguments are left alone."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raises ValueError, which vLLM turns into its refusal, for what is unknown, of a wrong
        type or out of range."""
        given = sampling_params.extra_args or {}
        known = [name for group in ARGUMENTS for name in group]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(
                f"unknown decoder argument {unknown[0]}, got {given[unknown[0]]!r}; allowed: "
                f"{', '.join(known)}; correct extra_args"
            )
        for group in ARGUMENTS:
            missing = [name for name in group if name not in given]
            if 0 < len(missing) < len(group):
                raise ValueError(
                    f"the decoder arguments {', '.join(group)} must be set together: "
                    f"{missing[0]} is missing; add it to extra_args"
                )
        _check_numbers(given)
        if "gate_entropy" in given and sampling_params.temperature < 0.01:
            raise ValueError(
                f"gate_entropy needs a temperature to sample at above the gate: got "
                f"{sampling_params.temperature}; allowed: at least 0.01; set temperature"
            )
        if "first_tokens" in given and sampling_params.seed is None:
            raise ValueError("first_tokens needs a seed: got none; allowed: an integer; set seed")

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, _Row] = {}
        self._sigma_rows, self._gate_rows = _no_rows(device), _no_rows(device)
        self._sigma, self._entropy, self._scale = (torch.empty((0, 1), device=device),) * 3

    def is_argmax_invariant(self) -> bool:
        """A forced first token is hardly ever the likeliest one. It also places the processor
        before the temperature, on raw logits."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if process_dict_updates(self._rows, batch_update, _row):
            self._gather()

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if not self._rows:
            return logits
        forced = self._forced(logits)
        # before tokens are cut: the gate asks how sure the model itself is
        cold = _entropy(logits[self._gate_rows]) < self._entropy if len(self._gate_rows) else None
        if len(self._sigma_rows):
            rows = logits[self._sigma_rows]
            least = rows.amax(-1, keepdim=True) - self._sigma * rows.std(-1, False, keepdim=True)
            logits[self._sigma_rows] = rows.masked_fill(rows < least, -math.inf)
        if cold is not None:
            rows = logits[self._gate_rows]
            # an infinite scale is temperature 0: what is not the largest goes to -inf
            below = rows - rows.amax(-1, keepdim=True)
            scaled = torch.where(below < 0, below * self._scale, below)
            logits[self._gate_rows] = torch.where(cold, scaled, rows)
        for row, token in forced.items():
            logits[row] = -math.inf
            logits[row, token] = 0.0
        return logits

    def _forced(self, logits: torch.Tensor) -> dict[int, int]:
        """The first token of rows that have none yet, by its rank in the model's own logits."""
        starting = {
            row: one.first
            for row, one in self._rows.items()
            if one.first is not None and not one.output
        }
        if not starting:
            return {}
        rows = torch.tensor(list(starting), device=self._device)
        # of equals the smaller id comes first, whatever else is in the batch
        ranked = torch.sort(logits[rows], dim=-1, descending=True, stable=True).indices
        ranks = torch.tensor(list(starting.values()), device=self._device)
        tokens = ranked.gather(-1, ranks.unsqueeze(-1)).squeeze(-1).tolist()
        return dict(zip(starting, tokens, strict=True))

    def _gather(self) -> None:
        sigma = {row: one.sigma for row, one in self._rows.items() if one.sigma is not None}
        gate = {row: one.gate for row, one in self._rows.items() if one.gate is not None}
        self._sigma_rows = torch.tensor(list(sigma), dtype=torch.long, device=self._device)
        self._gate_rows = torch.tensor(list(gate), dtype=torch.long, device=self._device)
        self._sigma = self._column(list(sigma.values()))
        self._entropy = self._column([entropy for entropy, _ in gate.values()])
        self._scale = self._column([scale for _, scale in gate.values()])

    def _column(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device).unsqueeze(-1)


def _row(params: SamplingParams, prompt: list[int] | None, output: list[int]) -> _Row | None:
    given = params.extra_args or {}
    if not given:
        return None
    gate = first = None
    if "gate_entropy" in given:
        cold = given["cold_temperature"]
        gate = (given["gate_entropy"], params.temperature / cold if cold else math.inf)
    if "first_tokens" in given:
        assert params.seed is not None
        index = given["first_index"] + params.seed - given["first_seed"]
        first = index % given["first_tokens"]
    return _Row(given.get("top_n_sigma"), gate, first, output)


def _check_numbers(given: Mapping[str, Any]) -> None:
    whole = ("first_tokens", "first_index", "first_seed")
    least = {"top_n_sigma": 0, "gate_entropy": 0, "cold_temperature": 0} | {
        "first_tokens": 2,
        "first_index": 0,
        "first_seed": 0,
    }
    for name, value in given.items():
        kinds = (int,) if name in whole else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < least[name]:
            raise ValueError(
                f"decoder argument {name} is out of range: got {value!r}; allowed: "
                f"{'an integer' if name in whole else 'a number'} of at least {least[name]}; "
                "correct extra_args"
            )


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Nats, with a last axis of 1."""
    log_p = torch.log_softmax(logits, dim=-1)
    parts: torch.Tensor = torch.special.entr(log_p.exp())
    return parts.sum(-1, keepdim=True)


def _no_rows(device: torch.device) -> torch.Tensor:
    return torch.empty((0,), dtype=torch.long, device=device)
