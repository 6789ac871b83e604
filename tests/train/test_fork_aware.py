"""The fork-aware loss against its formula in double precision, and the targets that it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from forkdiv.core.config.sft import ForkAwareConfig, SftConfig
from forkdiv.core.errors import UserError
from forkdiv.data import token_table
from forkdiv.data.token_table import BaseDistribution, TokenClass, TokenTable
from forkdiv.train import targets
from forkdiv.train.collate import collate
from forkdiv.train.losses.base import BaseTargets
from forkdiv.train.losses.fork_aware import fork_aware
from forkdiv.train.losses.response import response_loss
from forkdiv.train.packing import pack

TOKENS, VOCABULARY = 5, 11
NO_ENDS = torch.tensor([], dtype=torch.long)


def drawn(seed: int, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels, both weights, and the base's whole distribution."""
    random = torch.Generator().manual_seed(seed)
    z = scale * torch.randn((TOKENS, VOCABULARY), generator=random)
    y = torch.randint(VOCABULARY, (TOKENS,), generator=random)
    label, weight = torch.rand((2, TOKENS), generator=random)
    base = torch.softmax(scale * torch.randn((TOKENS, VOCABULARY), generator=random), -1)
    return z, y, label, weight, base


def by_hand(z: Tensor, y: Tensor, label: Tensor, weight: Tensor, base: Tensor, kept: int) -> Tensor:
    """The formula in float64, on the distribution with the tokens that are not kept as one."""
    base = base.double() / base.double().sum(-1, keepdim=True)
    q = torch.softmax(z.double(), -1)
    p, ids = base.sort(-1, descending=True)
    own = q.gather(-1, ids)
    kl = (p * (p / own).log())[:, :kept].sum(-1)
    if kept < base.shape[-1]:
        rest, own_rest = p[:, kept:].sum(-1), own[:, kept:].sum(-1)
        kl = kl + rest * (rest / own_rest).log()
    return label * -q.gather(-1, y[:, None])[:, 0].log() + weight * kl


@given(st.integers(0, 999), st.sampled_from([1, 3, VOCABULARY - 1, VOCABULARY]))
def test_the_loss_and_its_gradient_are_those_of_the_formula_in_float64(
    seed: int, kept: int
) -> None:
    z, y, label, weight, base = drawn(seed)
    p, ids = base.topk(kept, -1)
    a, b = z.clone().requires_grad_(), z.double().clone().requires_grad_()
    found = fork_aware(a, y, label, weight, ids, p)
    wanted = by_hand(b, y, label, weight, base, kept)
    # of what the base gives less than 1e-5 altogether, nothing is kept
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=3e-4)
    (of_a,), (of_b,) = (torch.autograd.grad(x.sum(), y) for x, y in ((found, a), (wanted, b)))
    torch.testing.assert_close(of_a.double(), of_b, rtol=1e-3, atol=1e-4)


@given(st.integers(0, 999))
def test_kl_to_the_base_is_zero_with_a_zero_gradient_where_the_model_is_the_base(seed: int) -> None:
    z, y, _, _, _ = drawn(seed)
    p, ids = torch.softmax(z, -1).topk(4, -1)
    z = z.clone().requires_grad_()
    none, one = torch.zeros(TOKENS), torch.ones(TOKENS)
    loss = fork_aware(z, y, none, one, ids, p)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    torch.testing.assert_close(loss, torch.zeros(TOKENS), atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(z), atol=1e-5, rtol=0)


@given(st.integers(0, 999), st.floats(0, 1))
def test_shares_of_label_and_base_are_cross_entropy_with_the_mixed_target(
    seed: int, share: float
) -> None:
    z, y, _, _, base = drawn(seed)
    z = z.double().requires_grad_()
    p, ids = base.double().topk(VOCABULARY, -1)
    one = torch.ones(TOKENS, dtype=torch.float64)
    (found,) = torch.autograd.grad(
        fork_aware(z, y, share * one, (1 - share) * one, ids, p).sum(), z
    )
    onehot = torch.nn.functional.one_hot(y, VOCABULARY).double()
    wanted = torch.softmax(z, -1) - (1 - share) * base.double() - share * onehot
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_entries_that_fill_a_row_up_change_nothing() -> None:
    z, y, label, weight, base = drawn(1)
    p, ids = base.topk(3, -1)
    more = torch.cat([ids, ids[:, :1].expand(-1, 4)], -1)
    padded = torch.cat([p, torch.zeros((TOKENS, 4))], -1)
    wanted = fork_aware(z, y, label, weight, ids, p)
    torch.testing.assert_close(fork_aware(z, y, label, weight, more, padded), wanted)


def test_without_a_table_the_loss_is_refused() -> None:
    z, y, *_ = drawn(0)
    config = SftConfig(loss="fork-aware")
    first = torch.zeros((1, TOKENS), dtype=torch.bool)
    with pytest.raises(UserError, match="needs a learnability table"):
        response_loss(z[None], lambda x: x, y[None], first, config, NO_ENDS)


ROWS = [([1, 2], [3, 4, 5]), ([1], [6]), ([2, 3, 4], [7, 8])]


def table() -> TokenTable:
    labels = np.array([token for _, response in ROWS for token in response], dtype=np.int32)
    classes = np.array([0, 1, 2, 3, 4, 2], dtype=np.uint8)
    counts = np.array([1, 2, 3, 1, 2, 0])
    ids = np.arange(9, dtype=np.int32)
    base = BaseDistribution(
        np.concatenate([[0], counts.cumsum()]), ids, np.full(9, 0.25, dtype=np.float32)
    )
    return TokenTable(np.array([3, 1, 2]), labels, classes, base)


def test_each_class_has_its_weights() -> None:
    config = ForkAwareConfig(kl=2.0, label_share=0.25, kl_learnable=0.1, kl_unlabelled=3.0)
    found = targets.token_targets(table(), config)
    np.testing.assert_allclose(found.label, [1, 1, 0, 0.25, 0, 0])
    np.testing.assert_allclose(found.base, [0.1, 0.1, 2, 1.5, 3, 2])


def test_the_base_is_kept_only_where_its_weight_is_not_zero() -> None:
    found = targets.token_targets(table(), ForkAwareConfig())
    assert np.diff(found.distribution.starts).tolist() == [0, 0, 3, 1, 2, 0]
    assert found.distribution.ids.tolist() == [3, 4, 5, 6, 7, 8]
    assert found.row(1).distribution.ids.tolist() == [6]


def test_targets_are_read_as_they_were_written(tmp_path: Path) -> None:
    wanted = targets.token_targets(table(), ForkAwareConfig(kl_learnable=0.5))
    targets.write(tmp_path / "targets.npz", wanted)
    found = targets.read(tmp_path / "targets.npz")
    for row in range(3):
        a, b = found.row(row), wanted.row(row)
        np.testing.assert_array_equal(a.label, b.label)
        np.testing.assert_array_equal(a.base, b.base)
        np.testing.assert_array_equal(a.distribution.p, b.distribution.p)


@pytest.mark.parametrize("pack_tokens", [None, 9])
@pytest.mark.parametrize("boundaries", [False, True])
def test_targets_stay_with_their_tokens_when_examples_are_packed(
    pack_tokens: int | None, boundaries: bool
) -> None:
    every = targets.token_targets(table(), ForkAwareConfig(kl_learnable=0.5))
    packed = pack([len(prompt) + len(response) for prompt, response in ROWS], pack_tokens)
    batch = collate(ROWS, packed, boundaries, [every.row(i) for i in range(3)])
    labels = batch.targets[batch.targets >= 0].tolist()
    assert batch.base is not None
    by_label = dict(zip(table().labels.tolist(), range(6), strict=True))
    order = [by_label[label] for label in labels]
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(batch.base.label, every.label[order])
    np.testing.assert_allclose(batch.base.base, every.base[order])
    entries = [ids[p > 0].tolist() for ids, p in zip(batch.base.ids, batch.base.p, strict=True)]
    starts, ids = every.distribution.starts, every.distribution.ids
    assert entries == [ids[starts[i] : starts[i + 1]].tolist() for i in order]


def test_a_rank_without_rows_has_no_targets_and_a_loss_of_zero() -> None:
    batch = collate(ROWS, [], row_targets=[])
    assert isinstance(batch.base, BaseTargets) and len(batch.base.label) == 0
    z = torch.zeros((*batch.ids.shape, VOCABULARY), requires_grad=True)
    config = SftConfig(loss="fork-aware")
    loss = response_loss(
        z, lambda x: x, batch.targets, batch.first, config, NO_ENDS, base=batch.base
    )
    assert float(loss.detach()) == 0


def test_a_table_of_other_rows_is_refused(tmp_path: Path) -> None:
    token_table.write(tmp_path, table())
    other = [*ROWS[:2], ([2, 3, 4], [7, 9])]
    with pytest.raises(UserError, match="is of other data"):
        targets.with_targets(other, tmp_path, ForkAwareConfig())
    rows, found = targets.with_targets(ROWS, tmp_path, ForkAwareConfig())
    assert rows == ROWS and len(found.label) == 6


def test_a_class_that_is_added_must_get_weights() -> None:
    assert [kind.value for kind in TokenClass] == list(range(len(TokenClass)))
