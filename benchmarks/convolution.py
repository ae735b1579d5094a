"""When does Winograd's convolution pay? `ops.models.winograd` against torch's direct convolution, layer by layer.

    python -m benchmarks.convolution [--json] [--quick]

The measurement behind what `fits`. For 3x3 layers of as many outputs as channels, or twice as many in stride 2, both sides
take turns in what a step of an attack asks of a layer, the output and the gradient of the images, and then with the
gradient of the weights too; times are medians over rounds. Errors are root mean squares of the output's difference from
double precision, as a share of the output's. With --json, the ratio is that of an attack over all layers where `used` is
true.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from benchmarks.layers import compare_layers, median_milliseconds, random_maps  # noqa: E402
from ops.models.resnet import Conv  # noqa: E402
from ops.models.transformed import kept_kernels  # noqa: E402
from ops.models.winograd import fits, winograd  # noqa: E402

LAYERS = [
    *((128, channels, side, 1) for channels, side in ((16, 32), (32, 32), (32, 16), (64, 32), (64, 16), (64, 8))),
    *((128, channels, side, 1) for channels, side in ((96, 16), (128, 16), (128, 8), (128, 4), (256, 8), (512, 4))),
    *((batch, 128, 8, 1) for batch in (2, 4, 8, 16, 32)),
    *((128, channels, side, 2) for channels, side in ((32, 16), (64, 32), (64, 8), (128, 16), (256, 8))),
    *((batch, 128, 16, 2) for batch in (4, 8, 16, 32)),
]
"""Images in the batch, channels, side of the images in pixels, and stride."""
ROUNDS, QUICK_ROUNDS = 31, 7


def direct(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return what torch makes of images (N, C, H, W) with SAME padding."""
    if stride == 1:
        return F.conv2d(x, weight, padding=1)
    return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=stride)


CONVOLUTIONS = {"winograd": winograd, "direct": direct}


def main() -> None:
    """Measure and print."""
    compare_layers("convolution", __doc__, LAYERS, measure, ("winograd", "direct"), (ROUNDS, QUICK_ROUNDS))


def measure(batch: int, channels: int, side: int, stride: int, rounds: int) -> dict[str, Any]:
    """Return medians and errors of both sides for one layer."""
    out = stride * channels
    conv = Conv(channels, out, stride=stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, direction = random_maps((batch, channels, side, side), (batch, out, side // stride, side // stride))
    x.requires_grad_()
    exact = direct(x.detach().double(), conv.weight.detach().double(), stride)
    errors = {side: convolve(x, conv.weight, stride).detach() - exact for side, convolve in CONVOLUTIONS.items()}
    with kept_kernels():  # as attacks do: weights stay what they are
        attack = take_turns(x, conv.weight.detach(), direction, stride, rounds)
    learning = take_turns(x, conv.weight, direction, stride, rounds)
    return {
        "images": batch,
        "channels": channels,
        "side": side,
        "stride": stride,
        **{f"{name}, ms": round(value, 2) for name, value in attack.items()},
        "ratio": round(attack["direct"] / attack["winograd"], 2),
        "ratio with weights": round(learning["direct"] / learning["winograd"], 2),
        **{f"error of {name}": f"{float(error.norm() / exact.norm()):.1e}" for name, error in errors.items()},
        "used": fits(conv, x),
    }


def take_turns(
    x: torch.Tensor, weight: torch.Tensor, direction: torch.Tensor, stride: int, rounds: int
) -> dict[str, float]:
    """Return each side's median milliseconds for the output and the gradients of all that wants one."""
    wanted = [part for part in (x, weight) if part.requires_grad]

    def run(convolve: Callable[..., torch.Tensor]) -> None:
        torch.autograd.grad(convolve(x, weight, stride), wanted, direction)

    return median_milliseconds({name: partial(run, convolve) for name, convolve in CONVOLUTIONS.items()}, rounds)


if __name__ == "__main__":
    main()
