"""Group DRO (Sagawa et al. 2020): a weight for each group, which grows with the group's loss."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ops.train.workers import Workers


class GroupWeights(nn.Module):
    """The weights q of G groups, and the loss that they make (algorithm 1).

    A step moves q_g to q_g exp(step (loss_g + adjustment / sqrt(n_g))), makes q sum to 1, and minimises
    sum_g q_g loss_g. `loss_g` is the mean over the group's images in the batch and `n_g` the number of its training
    images. The algorithm draws one group a step; here, as in the authors' code, a batch has images of many groups and all
    of them move. Groups without an image in the batch do not move (the authors' code lets the adjustment move them).
    """

    log_q: torch.Tensor
    """(G,) float32: logarithms, so that a weight that becomes small can grow again."""
    margin: torch.Tensor

    def __init__(self, counts: np.ndarray, step: float, adjustment: float, workers: Workers) -> None:
        """Start with equal weights; `counts` (G,) are the n_g, all positive."""
        super().__init__()
        self.step, self.workers = step, workers
        self.register_buffer("log_q", torch.full((len(counts),), 1 / len(counts)).log())
        margin = adjustment / torch.from_numpy(counts).double().sqrt()
        self.register_buffer("margin", margin.float(), persistent=False)

    def forward(self, losses: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Move the weights; return the loss of this process's rows and figures of the batch (detached).

        `losses` (b,) float32 and `groups` (b,) int64 are this process's rows; means are over the rows of all processes.
        The mean of the returned losses over processes, and of their gradients, is that of the whole batch.
        """
        means, counts = self._means(losses.detach(), groups)
        seen = counts > 0
        with torch.no_grad():
            moved = self.log_q + self.step * torch.where(seen, means + self.margin, 0)
            self.log_q.copy_(moved.log_softmax(dim=0))
            q = self.log_q.exp()
        share = self.workers.count * q / counts.clamp_min(1)
        figures = {"worst group loss": means[seen].max(), "largest group weight": q.max()}
        return (share[groups] * losses).sum(), figures

    def _means(self, losses: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean loss (G,) and number of images (G,) of each group in the batch; 0 where there are none."""
        # no scatter, whose sums on a GPU depend on the order; no matmul, which autocast would round
        member = F.one_hot(groups, len(self.log_q)).to(losses.dtype)
        sums = self.workers.total(torch.stack([(member * losses[:, None]).sum(dim=0), member.sum(dim=0)]))
        return sums[0] / sums[1].clamp_min(1), sums[1]
