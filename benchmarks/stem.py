"""What does an attack ask of a network's first convolution? `ops.models.stem` against torch, layer by layer.

    python -m benchmarks.stem [--json] [--quick]

Both sides normalise images, convolve them to so many channels, and lead a gradient back to the images, in turns; times are
medians over rounds. Forward both are torch's: what differs is the way back. Errors are the largest difference of the gradient
from that in double precision, as a share of the largest gradient. With --json, the ratio is that over all layers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.layers import compare_layers, median_milliseconds, random_maps  # noqa: E402
from ops.models.build import build_classifier  # noqa: E402
from ops.models.config import Architecture  # noqa: E402
from ops.models.frozen import frozen_parameters  # noqa: E402
from ops.models.resnet import ResNet  # noqa: E402
from ops.models.stem import fits, map_images  # noqa: E402

LAYERS = [(128, 16, 32, 1), (128, 64, 32, 1), (64, 64, 32, 1), (16, 64, 32, 1), (64, 64, 32, 2), (16, 64, 64, 2)]
"""Images in the batch, channels that are made, side of the images in pixels, and stride."""
ROUNDS, QUICK_ROUNDS = 61, 9


def torchs(model: ResNet, x: torch.Tensor) -> torch.Tensor:
    """Return the map (N, K, h, w) of images (N, 3, H, W) as torch computes it."""
    return model.stem(model.normalise(x))


SIDES = {"ours": map_images, "torch": torchs}


def main() -> None:
    """Measure and print."""
    compare_layers("stem", __doc__, LAYERS, measure, ("ours", "torch"), (ROUNDS, QUICK_ROUNDS))


def measure(batch: int, channels: int, side: int, stride: int, rounds: int) -> dict[str, Any]:
    """Return medians of both sides for one layer, and the errors of their gradients."""
    architecture = Architecture(widths=[channels], blocks=[1], stem_stride=stride)
    built: nn.Module = build_classifier(architecture, 2, [0.5] * 3, [0.25] * 3, 0).eval()
    model = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, direction = random_maps((batch, 3, side, side), (batch, channels, side // stride, side // stride))
    x.requires_grad_()
    runs = {name: partial(led_back, mapped, model, x, direction) for name, mapped in SIDES.items()}
    with frozen_parameters(model):
        assert fits(model, x)
        gradients = {name: run() for name, run in runs.items()}
        taken = median_milliseconds(runs, rounds)
    twin = x.detach().double().requires_grad_()
    exact = led_back(torchs, model.double(), twin, direction.double())
    return {
        "images": batch,
        "channels": channels,
        "side": side,
        "stride": stride,
        **{f"{name}, ms": round(value, 2) for name, value in taken.items()},
        "ratio": round(taken["torch"] / taken["ours"], 2),
        **{
            f"error of {name}": f"{float((gradient - exact).abs().max() / exact.abs().max()):.1e}"
            for name, gradient in gradients.items()
        },
    }


def led_back(
    mapped: Callable[[Any, torch.Tensor], torch.Tensor], model: nn.Module, x: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of `x` (N, 3, H, W), where that of its map is `direction`."""
    return torch.autograd.grad(mapped(model, x), x, direction)[0]


if __name__ == "__main__":
    main()
