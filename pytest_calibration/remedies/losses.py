"""The losses of CFT and RCFT (Xiao et al. 2025, arXiv 2505.01997), as functions of tensors.

All keep the type of what they are given. Rows may have different numbers of options: those that a
row does not have are not ``present``, and have probability and target 0.

The E-step is ``bin_of`` and ``bin_accuracy``: each item gets the accuracy of its bin as the target
of its largest probability. The M-step is the squared distance to ``option_targets``.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED: Final = -100
"""Label of a token that no loss counts."""
# How the edges of bins are snapped, as for ECE.
SNAP: Final = 1e-6


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of −log P over the tokens that have a label, in nats; 0 without any.

    Args:
        logits: (b, t, v).
        labels: (b, t) tokens, each predicted at the position before it; -100 where none counts.
    """
    shifted = labels[:, 1:].flatten()
    total = cross_entropy(
        logits[:, :-1].flatten(0, 1), shifted, ignore_index=IGNORED, reduction="sum"
    )
    return total / (shifted != IGNORED).sum().clamp(min=1)


def option_probabilities(logits: Tensor, present: Tensor) -> Tensor:
    """Return the soft-max over the options that are present, (b, k).

    Args:
        logits: (b, k) of the options' tokens.
        present: (b, k) whether a row has an option.
    """
    return logits.masked_fill(~present, -math.inf).softmax(-1)


def bin_of(confidence: Tensor, bins: int) -> Tensor:
    """Return the bin of each confidence, (n,): of equal width, closed on the right, as for ECE.

    0 lies in the first bin and 1 in the last.
    """
    return ((confidence * bins - SNAP).ceil().long() - 1).clamp(0, bins - 1)


def bin_accuracy(index: Tensor, correct: Tensor, bins: int) -> Tensor:
    """Return the accuracy of each bin, (bins,), shrunk to (k + 1) / (n + 2).

    So it is never 0 or 1, which a few items cannot show, and 1/2 where there are none.

    Args:
        index: (n,) bin of each item.
        correct: (n,) whether its answer is correct.
        bins: number of bins.
    """
    n = torch.bincount(index, minlength=bins)
    k = torch.bincount(index[correct], minlength=bins)
    return (k + 1) / (n + 2)


def option_targets(probabilities: Tensor, present: Tensor, accuracy: Tensor) -> Tensor:
    """Return what the probabilities of the options are drawn to, (b, k); rows sum to 1.

    The largest gets the accuracy a of its bin. The others share 1 − a: option j gets α (1 + tanh
    γ p_j), where γ = ln 3 / (p₂ (1 − a)), p₂ is the second largest, and α makes the sum right. So
    their order stays. They are constants of the loss: no gradient goes through them.

    Args:
        probabilities: (b, k) of the options now.
        present: (b, k) whether a row has an option; at least two of each row.
        accuracy: (b,) a, of the bin that the E-step found the item in.
    """
    probabilities = probabilities.detach()
    top = probabilities.argmax(-1, keepdim=True)
    others = present.scatter(1, top, False)
    rest = (1 - accuracy)[:, None]
    second = probabilities.masked_fill(~others, -math.inf).amax(-1, keepdim=True)
    # Where all others are 0, they are equal.
    relative = torch.where(second > 0, probabilities / second.clamp(min=1e-38), 1.0)
    # Where nothing is left to share, any weights do.
    weight = 1 + torch.tanh(math.log(3) * relative / rest.clamp(min=1e-12))
    weight = weight * others
    shares = rest * weight / weight.sum(-1, keepdim=True)
    return shares.scatter(1, top, accuracy[:, None].to(shares.dtype))


def calibration_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over items of the squared distance of their probabilities to the targets.

    Args:
        probabilities: (b, k) of the options.
        targets: (b, k) of :func:`option_targets`.
    """
    return (probabilities - targets).square().sum(-1).mean()
