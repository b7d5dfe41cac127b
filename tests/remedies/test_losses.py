"""The losses of CFT and RCFT against hand-computed numbers, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pytest_calibration.metrics import ece  # noqa: E402
from pytest_calibration.metrics.binning import bin_index  # noqa: E402
from pytest_calibration.remedies.losses import (  # noqa: E402
    bin_accuracy,
    bin_of,
    calibration_loss,
    option_probabilities,
    option_targets,
    token_loss,
)

pytestmark = pytest.mark.torch


def tensor(*rows: Any, dtype: Any = None) -> Any:
    """Return rows as float64."""
    return torch.tensor(rows, dtype=dtype or torch.float64)


def logits(b: int, k: int, seed: int = 0) -> Any:
    """Return random logits in float64, without ties."""
    made = torch.randn(b, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return 2 * made


def everything(rows: Any) -> Any:
    """Say that all options are present."""
    return torch.ones_like(rows, dtype=torch.bool)


def test_the_loss_on_tokens_is_that_of_the_labelled_ones() -> None:
    """−log of 1/2 and of 1/4, each predicted one position before; all others do not count."""
    rows = torch.log(tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([[-100, 0, 2]])
    wanted = (math.log(2) + math.log(4)) / 2
    assert float(token_loss(rows, labels)) == pytest.approx(wanted, abs=1e-12)
    assert float(token_loss(rows, torch.full((1, 3), -100))) == 0


def test_bins_are_those_of_the_ece() -> None:
    """Closed on the right, edges snapped, 0 in the first, 1 in the last: none is left out."""
    at = np.array([0, 1e-9, 0.1, 0.1 + 1e-9, 0.5, 0.9, 0.91, 0.999, 1.0])
    for bins in (1, 10, 15):
        found = bin_of(torch.from_numpy(at), bins).numpy()
        assert np.array_equal(found, bin_index(at, bins))
    assert bin_of(tensor(1.0, 0.95), 10).tolist() == [9, 9]


def test_the_accuracy_of_a_bin_is_shrunk() -> None:
    """(k + 1) / (n + 2): 3 of 4, 0 of 1, and none at all, which is 1/2 and no division by 0."""
    index = torch.tensor([0, 0, 0, 0, 2])
    correct = torch.tensor([True, True, True, False, False])
    assert bin_accuracy(index, correct, 4).tolist() == pytest.approx([4 / 6, 1 / 2, 1 / 3, 1 / 2])


def test_targets_are_those_of_a_case_computed_by_hand() -> None:
    """P = (0.7, 0.2, 0.1), a = 0.6: γ = ln 3 / (0.2 · 0.4), shares in (1 + tanh γp)."""
    found = option_targets(tensor([0.2, 0.7, 0.1]), everything(tensor([1, 1, 1])), tensor(0.6))
    gamma = math.log(3) / (0.2 * 0.4)
    second, third = (1 + math.tanh(gamma * p) for p in (0.2, 0.1))
    total = second + third
    assert found[0].tolist() == pytest.approx([0.4 * second / total, 0.6, 0.4 * third / total])


@pytest.mark.parametrize("k", [2, 3, 4, 5, 8])
def test_targets_keep_the_order_and_sum_to_1(k: int) -> None:
    """For any number of options, also where a row has fewer than the widest."""
    rows = logits(50, k)
    present = everything(rows)
    if k > 2:
        present[::3, -1] = False
    p = option_probabilities(rows, present)
    accuracy = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    found = option_targets(p, present, accuracy)
    assert torch.allclose(found.sum(-1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(found.gather(1, p.argmax(-1, keepdim=True))[:, 0], accuracy)
    assert (found[~present] == 0).all()
    second = p.argsort(-1)[:, -2:-1]
    rest = found.scatter(1, p.argmax(-1, keepdim=True), -1.0)
    assert torch.equal(rest.gather(1, second)[:, 0], rest.amax(-1))


def test_certain_answers_and_perfect_bins_give_numbers() -> None:
    """Confidence exactly 1, all others 0, and an accuracy of 1: no NaN, nothing left to share."""
    p = tensor([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    found = option_targets(p, everything(p), tensor(0.5, 1.0))
    assert found.tolist() == [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]
    sure = tensor([80.0, 0.0, 0.0], [90.0, -90.0, 0.0]).requires_grad_()
    p = option_probabilities(sure, everything(sure))
    calibration_loss(p, option_targets(p, everything(p), tensor(0.8, 1.0))).backward()
    assert torch.isfinite(sure.grad).all()


def test_the_distance_is_computed_by_hand() -> None:
    """((0.9−0.6)² + (0.1−0.4)² + (0.6−0.6)² + 0) / 2 items."""
    loss = calibration_loss(tensor([0.9, 0.1], [0.6, 0.4]), tensor([0.6, 0.4], [0.6, 0.4]))
    assert float(loss) == pytest.approx(0.09, abs=1e-12)


def test_a_confident_item_is_drawn_down() -> None:
    """The top bin counts like all others: the gradient lowers the logit of a too sure answer."""
    rows = tensor([4.0, 0.0, 0.0, 0.0]).requires_grad_()
    p = option_probabilities(rows, everything(rows))
    assert bin_of(p.max(-1)[0], 15).item() == 14
    calibration_loss(p, option_targets(p, everything(p), tensor(0.5))).backward()
    assert rows.grad[0, 0] > 0
    assert (rows.grad[0, 1:] < 0).all()


def test_targets_are_constants() -> None:
    """No gradient goes through them, whatever they are made of."""
    rows = logits(4, 4).requires_grad_()
    p = option_probabilities(rows, everything(rows))
    targets = option_targets(p, everything(rows), tensor(0.5, 0.5, 0.5, 0.5))
    assert not targets.requires_grad


def test_gradients_are_those_of_finite_differences() -> None:
    """In float64, of all parts, with rows of different numbers of options."""
    rows, present = logits(5, 4), everything(logits(5, 4))
    present[1, 3] = present[4, 2] = False
    p = option_probabilities(rows, present)
    targets = option_targets(p, present, tensor(0.2, 0.4, 0.5, 0.8, 0.99))

    def loss(z: Any) -> Any:
        return calibration_loss(option_probabilities(z, present), targets)

    assert torch.autograd.gradcheck(loss, rows.requires_grad_())
    words = logits(6, 7, 3).reshape(2, 3, 7).requires_grad_()
    labels = torch.tensor([[-100, 2, 6], [-100, -100, 0]])
    assert torch.autograd.gradcheck(lambda z: token_loss(z, labels), words)


def test_the_loss_does_not_depend_on_how_items_are_batched() -> None:
    """The mean over all is the mean of batches weighted by their size: no count of a bin in it."""
    rows, present = logits(12, 4), everything(logits(12, 4))
    accuracy = torch.linspace(0.1, 0.9, 12, dtype=torch.float64)

    def loss(a: int, b: int) -> float:
        p = option_probabilities(rows[a:b], present[a:b])
        return float(calibration_loss(p, option_targets(p, present[a:b], accuracy[a:b])))

    parts = sum((b - a) * loss(a, b) for a, b in ((0, 1), (1, 5), (5, 12))) / 12
    assert loss(0, 12) == pytest.approx(parts, abs=1e-12)


def test_descending_lowers_the_ece() -> None:
    """EM on free logits, 1.5 times too large thrice over: each E-step bins anew, and ECE falls."""
    generator = torch.Generator().manual_seed(1)
    true = 1.5 * torch.randn(600, 4, dtype=torch.float64, generator=generator)
    label = torch.multinomial(true.softmax(-1), 1, generator=generator)[:, 0]
    rows = (3 * true).requires_grad_()
    present = everything(rows)
    optimiser = torch.optim.Adam([rows], lr=0.1)

    def numbers() -> float:
        p = option_probabilities(rows.detach(), present).numpy()
        return float(ece((p, label.numpy())))

    start = numbers()
    for _ in range(12):
        p = option_probabilities(rows.detach(), present)
        index = bin_of(p.max(-1)[0], 15)
        accuracy = bin_accuracy(index, p.argmax(-1) == label, 15)[index].double()
        for _ in range(10):
            p = option_probabilities(rows, present)
            loss = calibration_loss(p, option_targets(p, present, accuracy))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert start > 0.15
    assert numbers() < start / 3
