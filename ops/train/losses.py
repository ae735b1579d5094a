"""TRADES and its relatives. Targets are probabilities (N, K), so that smoothed and mixed labels need no special case."""

import torch
import torch.nn.functional as F


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k targets_k log softmax(logits)_k for each example (N,)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)


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
    """Return targets (N, K): one-hot labels (N,), smoothed by `smoothing` (N,) of each example."""
    onehot = F.one_hot(labels, classes).float()
    return onehot * (1 - smoothing[:, None]) + smoothing[:, None] / classes
