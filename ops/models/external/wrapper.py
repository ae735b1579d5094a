"""A module from elsewhere behind the interface of all classifiers."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ops.errors import AmalgamError
from ops.models.base import Classifier
from ops.models.external.code import make_module, short_errors
from ops.models.external.config import ExternalArchitecture


class External(Classifier):
    """From images (N, 3, H, W), floating point in [0, 1], to logits (N, K) in the dataset's order of classes.

    Resizing and the order of outputs are part of the network: attacks see the dataset's pixels and classes. Features and
    normalisation are the module's own and not known here: asking for them raises AmalgamError.
    """

    order: torch.Tensor | None

    def __init__(self, net: nn.Module, architecture: ExternalArchitecture, code: Path) -> None:
        super(Classifier, self).__init__()  # no head, mean and deviation beside those that the module has inside
        self.net = net
        self.name, self.code, self.side = architecture.object, code.resolve(), architecture.image_size
        self.classes = len(architecture.order)
        same = architecture.order == list(range(self.classes))
        self.register_buffer("order", None if same else torch.tensor(architecture.order), persistent=False)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Raise AmalgamError."""
        raise self._unknown("normalisation")

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Raise AmalgamError."""
        raise self._unknown("features")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K); raises AmalgamError for an exception in the module, and for what are no N x K logits."""
        pixels = x.contiguous()  # not channels-last: code from elsewhere may rely on the plain layout (`view`)
        if self.side is not None and tuple(x.shape[2:]) != (self.side, self.side):
            pixels = F.interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False)
        remedy = "if it was made for images of another size, set image_size to that; else correct its code"
        with short_errors(f"{self.name}, given images {tuple(pixels.shape[1:])},", self.code, remedy):
            logits = self.net(pixels)
        self._check(logits, x.shape[0])
        return logits.float() if self.order is None else logits.float().index_select(1, self.order)

    def _check(self, logits: object, count: int) -> None:
        if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
            what = logits.dtype if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise AmalgamError(
                f"{self.name} returns {what}, no logits", "let it return one floating-point tensor (N, K)"
            )
        if logits.ndim != 2 or logits.shape[0] != count:
            raise AmalgamError(
                f"{self.name} returns {tuple(logits.shape)} for {count} images, not one row of logits for each",
                "if it was made for images of another size, set image_size to that",
            )
        if logits.shape[1] != self.classes:
            raise AmalgamError(
                f"{self.name} has {logits.shape[1]} outputs, the dataset has {self.classes} classes",
                "evaluate it on the dataset that it was trained on, or correct its arguments",
            )

    def _unknown(self, what: str) -> AmalgamError:
        return AmalgamError(f"the {what} of {self.name} are not known: it is a model from elsewhere", "use its logits")


def external_classifier(architecture: ExternalArchitecture, code: Path) -> External:
    """Return the model that `architecture` describes, with the weights its code gives it, in evaluation mode.

    Runs the Python code in the folder `code`. Raises AmalgamError for whatever goes wrong there.
    """
    return External(make_module(code, architecture.object, architecture.arguments), architecture, code).eval()
