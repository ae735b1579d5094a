"""The closest point to an image, inside [0, 1], on a hyperplane: the step of FAB (Croce and Hein 2020), exact."""

import torch

from ops.attack.projections import FEW
from ops.attack.threat import Norm

NEWTON_STEPS = 50
"""Bound on Newton's steps for L-inf and L2. 3 to 8 are usual; where more are needed, the point is short of the plane."""
PRECISION = 1e-6
"""The multiplier is settled when a step changes it by no more than this share."""


@torch.no_grad()
def move_to_plane(x: torch.Tensor, normal: torch.Tensor, gain: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Return the shortest d (N, ...) in `norm` with <normal, d> = gain and x + d in [0, 1].

    `x` and `normal` are (N, ...), x in [0, 1]; `gain` is (N,), of any sign. Where no point of the box is on the plane, d
    leads to the corner closest to it. Entries whose normal is 0 do not move.

    With w = sign(gain) normal, each entry moves by at most `room`, its distance to the border that w points at. The
    optimality conditions give |d_i| = min(lambda, room_i) for L-inf and min(lambda |w_i|, room_i) for L2 with one lambda
    for each image; for L1, entries of the largest |w_i| use all their room, and one of them a part of it.
    """
    lies = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    # entries in the order of memory: to bring them into another one costs more than the arithmetic
    flat, slope = ((each.permute(0, 2, 3, 1) if lies else each).flatten(1) for each in (x, normal))
    slope = slope * torch.where(gain < 0, -1.0, 1.0).to(normal)[:, None]
    room = torch.where(slope > 0, 1 - flat, flat).clamp_min_(0)
    steep, gain = slope.abs(), gain.abs()
    if norm == "l1":
        length = _steepest_first(steep, room, gain)
    else:
        reach = (steep > 0).to(steep) if norm == "linf" else steep
        length = torch.minimum(_multiplier(steep, reach, room, gain)[:, None] * reach, room)
    way = length.mul_(slope.sign_())
    return way.unflatten(1, (*x.shape[2:], x.shape[1])).permute(0, 3, 1, 2) if lies else way.view_as(x)


def _multiplier(steep: torch.Tensor, reach: torch.Tensor, room: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Return lambda (N,) at which sum_i steep_i min(lambda reach_i, room_i) is `gain`.

    The sum is concave in lambda, increasing and linear between kinks: Newton's method from the left never passes the root
    and ends on it after finitely many steps. Where there is no root, lambda ends beyond the last kink.
    """
    tiny = torch.finfo(steep.dtype).tiny
    whole = steep * reach
    total = whole.sum(dim=1)
    found = torch.where(total > 0, gain / total.clamp_min(tiny), 0)  # without a slope there is nowhere to go
    blocked = steep * room
    gain = torch.minimum(gain, blocked.sum(dim=1))
    # the same memory for all steps: on a CPU, fresh memory for tensors of this size costs more than the arithmetic
    gained, free = torch.empty_like(whole), torch.empty_like(whole)
    for _ in range(NEWTON_STEPS):
        torch.mul(whole, found[:, None], out=gained)
        torch.lt(gained, blocked, out=free)
        value = torch.minimum(gained, blocked, out=gained).sum(dim=1)
        left = free.mul_(whole).sum(dim=1)
        new = found + torch.where(left > 0, (gain - value).clamp_min(0) / left.clamp_min(tiny), 0)
        settled = new - found <= PRECISION * found
        found = new
        if steep.device.type == "cpu" and bool(settled.all()):
            break  # asked only where asking is free
    return found


def _steepest_first(steep: torch.Tensor, room: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Return how far each entry moves (N, n) if the steepest use their room until `gain` is reached.

    Few have to, usually: where a CPU can tell in which images, all entries are sorted in the others only.
    """
    few = steep.shape[1] // FEW if steep.device.type == "cpu" else 0
    if not few:
        return _use_in_order(steep, room, gain, steep.argsort(dim=1, descending=True, stable=True))[0]
    length, reached = _use_in_order(steep, room, gain, steep.topk(few, dim=1).indices)
    if not reached.all():
        steep, room, gain = steep[~reached], room[~reached], gain[~reached]
        length[~reached] = _use_in_order(steep, room, gain, steep.argsort(dim=1, descending=True, stable=True))[0]
    return length


def _use_in_order(
    steep: torch.Tensor, room: torch.Tensor, gain: torch.Tensor, order: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far each entry moves (N, n) if those at `order` (N, k) use their room, and which images reach `gain`."""
    sorted_steep, sorted_room = steep.gather(1, order), room.gather(1, order)
    gains = sorted_steep * sorted_room
    gained = gains.cumsum(dim=1)
    missing = gain[:, None] - (gained - gains)
    used = torch.minimum((missing / sorted_steep.clamp_min(torch.finfo(steep.dtype).tiny)).clamp_min(0), sorted_room)
    length = torch.zeros_like(steep).scatter(1, order, torch.where(sorted_steep > 0, used, 0))
    return length, gained[:, -1] >= gain
