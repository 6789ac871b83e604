"""Packed lines: examples side by side give what each gives alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import UserError
from forkdiv.data.tokenized import Row
from forkdiv.models.loading import new_model
from forkdiv.train.collate import collate
from forkdiv.train.deepspeed_engine import separate_packed
from forkdiv.train.losses.response import IGNORED
from forkdiv.train.packing import forward_passes
from tests.train.logits import WITHOUT_TABLE, loss_of_logits
from tests.train.test_schedule import TOKENIZER, gradient, mixed_rows

ROWS = mixed_rows(9)
LENGTHS = [len(prompt) + len(response) for prompt, response in ROWS]


def summed(model: Any, rows: list[Row], loss: str, micro: int | None, pack: int | None) -> Any:
    config = SftConfig.model_validate({"loss": loss, "dco_n": 4})
    total: Any = 0.0
    for parts in forward_passes(LENGTHS, 1, micro, pack):
        read = collate(rows, parts[0])
        logits = model(**read.inputs, use_cache=False).logits
        total = total + loss_of_logits(logits, read.targets, read.first, config)
    return total


@pytest.mark.parametrize("loss", WITHOUT_TABLE)
@pytest.mark.parametrize(("micro", "pack"), [(None, 64), (None, 1000), (2, 64), (2, None)])
def test_packed_or_in_passes_loss_and_gradient_are_the_same(
    loss: str, micro: int | None, pack: int | None
) -> None:
    model = new_model("micro-llama", TOKENIZER, 0)
    plain, other = (summed(model, ROWS, loss, *how) for how in ((None, None), (micro, pack)))
    assert other.item() == pytest.approx(plain.item(), rel=1e-5)
    wanted, found = gradient(model, plain), gradient(model, other)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_a_packed_example_does_not_attend_to_other_examples() -> None:
    model = new_model("micro-llama", TOKENIZER, 0)
    line = [(0, 1, 2)]

    def answers(rows: list[Row]) -> Any:
        return model(**collate(rows, line).inputs, use_cache=False).logits

    prompt, response = ROWS[1]
    plain = answers([*ROWS[:3]])
    changed = answers([ROWS[0], ([3] * len(prompt), [4] * len(response)), ROWS[2]])
    start, end = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    torch.testing.assert_close(changed[:, :start], plain[:, :start])
    torch.testing.assert_close(changed[:, end:], plain[:, end:])
    assert (changed[:, start:end] - plain[:, start:end]).abs().max() > 1e-3


def test_targets_are_at_the_positions_that_predict_response_tokens() -> None:
    rows: list[Row] = [([5, 6], [7, 1]), ([8], [9, 10, 1])]
    packed = collate(rows, [(0, 1)])
    x = IGNORED
    assert packed.ids.tolist() == [[5, 6, 7, 1, 8, 9, 10, 1]]
    assert packed.targets.tolist() == [[x, 7, 1, x, 9, 10, 1, x]]
    assert packed.first.nonzero().tolist() == [[0, 1], [0, 4]]
    assert packed.positions is not None and packed.mask is not None
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
    assert packed.mask[0, 0, 4].tolist() == [False] * 4 + [True] + [False] * 3
    apart = collate(rows, [(0,), (1,)])
    assert apart.mask is None and apart.positions is None
    assert apart.targets.tolist() == [[x, 7, 1, x], [9, 10, 1, x]]


def test_padding_of_packed_rows_causes_no_nan() -> None:
    model = new_model("micro-llama", TOKENIZER, 0)
    read = collate(ROWS[:4], [(0, 1, 2), (3,)])
    assert model(**read.inputs, use_cache=False).logits.isfinite().all()


def test_a_pass_without_rows_has_no_loss() -> None:
    read = collate(ROWS, [])
    assert read.ids.shape[0] == 1 and (read.targets == IGNORED).all() and not read.first.any()


def test_packing_is_refused_for_a_model_that_cannot_separate_examples() -> None:
    model = new_model("micro-llama", TOKENIZER, 0)
    place = PlaceConfig(pack_tokens=64)
    separate_packed(model, SftConfig(), place)
    model.set_attn_implementation("eager")
    with pytest.raises(UserError, match="cannot separate packed examples"):
        separate_packed(model, SftConfig(), place)


def test_with_boundaries_all_packed_rows_are_one_without_padding_and_mask() -> None:
    rows: list[Row] = [([5, 6], [7, 1]), ([8], [9, 1]), ([3], [1])]
    one = collate(rows, [(0, 1), (2,)], boundaries=True)
    x = IGNORED
    assert one.ids.tolist() == [[5, 6, 7, 1, 8, 9, 1, 3, 1]]
    assert one.targets.tolist() == [[x, 7, 1, x, 9, 1, x, 1, x]]
    assert one.positions is not None and one.boundaries is not None and one.mask is None
    assert one.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    assert one.boundaries.tolist() == [0, 4, 7, 9] and one.longest == 4
    none = collate(rows, [], boundaries=True)
    assert none.ids.shape == (1, 4) and (none.targets == IGNORED).all()
    assert none.boundaries is not None and none.boundaries.tolist() == [0, 4]
