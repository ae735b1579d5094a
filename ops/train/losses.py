"""Cross-entropy, the focal loss, TRADES and its relatives.

Targets are probabilities (N, K), so that smoothed and mixed labels need no special case.
"""

import torch
import torch.nn.functional as F

from ops.errors import AmalgamError


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k targets_k log softmax(logits)_k for each example (N,)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)


def focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return -sum_k targets_k (1 - p_k)^gamma log p_k for each example (N,), with p = softmax(logits).

    For hard labels it is the focal loss (Lin et al. 2017, equation 4) of the softmax instead of the paper's sigmoid. For
    smoothed and mixed labels, which the paper does not treat, it is the expected loss of a label drawn from them: like
    cross-entropy linear in the targets. There is no balance factor alpha_t: `sampling` balances.
    """
    log_p = F.log_softmax(logits, dim=1)
    # at p = 1 the derivative of a power below 1 is infinite, times 0
    wrong = (-log_p.expm1()).clamp_min(torch.finfo(logits.dtype).tiny)
    return -(targets * wrong**gamma * log_p).sum(dim=1)


def kl_divergence(clean: torch.Tensor, adversarial: torch.Tensor) -> torch.Tensor:
    """Return KL(softmax(clean) || softmax(adversarial)) for each example (N,), from logits (N, K).

    Both sides stay in log space, so that a probability that underflows to 0 gives 0 and not 0 log 0. The gradient goes
    through both arguments, as in the reference implementation of TRADES in the papers.
    """
    log_p, log_q = F.log_softmax(clean, dim=1), F.log_softmax(adversarial, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def trades(clean: torch.Tensor, adversarial: torch.Tensor, targets: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the mean of CE(f(x), y) + beta KL(f(x) || f(x')) (Zhang et al. 2019, equation 5)."""
    return (soft_cross_entropy(clean, targets) + beta * kl_divergence(clean, adversarial)).mean()


def smoothed(labels: torch.Tensor, classes: int, smoothing: torch.Tensor) -> torch.Tensor:
    """Return targets (N, K): one-hot labels (N,), smoothed by `smoothing` (N,) of each example.

    Raises AmalgamError for labels outside 0 ... classes - 1.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise AmalgamError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, but there are {classes} classes",
            "look at the labels of the shards' manifest; make the shards again",
        )
    onehot = F.one_hot(labels, classes).float()
    return onehot * (1 - smoothing[:, None]) + smoothing[:, None] / classes


def mart(clean: torch.Tensor, adversarial: torch.Tensor, labels: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the mean of BCE(f(x'), y) + beta KL(f(x) || f(x')) (1 - f_y(x)) (Wang et al. 2020, equation 11).

    BCE = -log p'_y - log(1 - max_{k != y} p'_k). `labels` (N,) int64. log(1 - p'_k) is computed as the log-sum-exp of the
    other classes, so that a probability of 1 gives a large number and not an infinity.
    """
    log_q = F.log_softmax(adversarial, dim=1)
    others = log_q.scatter(1, labels[:, None], -torch.inf)
    worst = others.argmax(dim=1, keepdim=True)
    rest = log_q.scatter(1, worst, -torch.inf).logsumexp(dim=1)
    boosted = -log_q.gather(1, labels[:, None]).squeeze(1) - rest
    wrong = 1 - clean.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return (boosted + beta * kl_divergence(clean, adversarial) * wrong).mean()
