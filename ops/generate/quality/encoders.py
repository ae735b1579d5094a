"""The encoders behind the feature spaces: raw pixels, colours, classifiers of this project, and pretrained networks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ops.errors import AmalgamError
from ops.generate.quality.config import CLASSIFIER, COLOURS, LITE0, PCA, QualityConfig
from ops.generate.quality.spaces import Space, content_of, identity_of, unit_batch
from ops.generate.quality.vision import vision_space
from ops.models.checkpoint import load_classifier, weights_digest
from ops.models.efficientnet_lite import FEATURES, WEIGHTS, efficientnet_lite0, fused

PCA_SIDE, PCA_IMAGES = 32, 4096
"""Larger images are shrunk to this side; the components are those of at most this many images."""
BINS = 8


def make_spaces(
    config: QualityConfig,
    train: np.ndarray,
    scorers: Mapping[str, Path],
    encoders: Mapping[str, Path],
    device: torch.device,
) -> dict[str, Space]:
    """Return every space that `config` names, for distances or judges, by name.

    Args:
        config: names the spaces.
        train: the real training images (N, H, W, 3) uint8, which the PCA is fitted on.
        scorers: model folders of the space `classifier`.
        encoders: folder of each of `config.encoders`.
        device: where networks run.

    Raises AmalgamError for a model or package that is missing or damaged.
    """
    made = {}
    for name in dict.fromkeys([*config.spaces, *config.judges]):
        if name == LITE0:
            made[name] = lite0_space(config.lite0_size, config.batch, device)
        elif name == PCA:
            made[name] = pca_space(train, config.components, config.batch, config.seed)
        elif name == COLOURS:
            made[name] = colour_space(config.batch)
        elif name == CLASSIFIER:
            made[name] = classifier_space(scorers, config.batch, device)
        else:
            made[name] = vision_space(name, encoders[name], config.batch, device)
    return made


def lite0_space(side: int, batch: int, device: torch.device) -> Space:
    """Return the space of EfficientNet-Lite0's 1280 ImageNet features, of images resized to `side` (bicubic)."""
    model = fused(efficientnet_lite0()).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def encode(images: np.ndarray) -> np.ndarray:
        x = F.interpolate(unit_batch(images, device), (side, side), mode="bicubic", antialias=True).clamp_(0, 1)
        return model.features(x).cpu().numpy()

    return Space(LITE0, identity_of(LITE0, WEIGHTS, side), FEATURES, encode, batch)


def classifier_space(scorers: Mapping[str, Path], batch: int, device: torch.device) -> Space:
    """Return the space of what classifiers feed their last layer, the features of all of them side by side.

    They learnt on the real training images, which they may know better than others: here a source is compared with
    held-out images, that no scorer learnt from, before it is compared with training images.

    Raises AmalgamError without a scorer, and for one whose features are not known (a model from elsewhere).
    """
    if not scorers:
        raise AmalgamError(
            "the space classifier needs a trained classifier",
            "train a scorer, or leave classifier out of quality.spaces",
        )
    loaded = [load_classifier(folder, device) for _, folder in sorted(scorers.items())]
    models = [model for model, _ in loaded]

    @torch.inference_mode()
    def encode(images: np.ndarray) -> np.ndarray:
        x = unit_batch(images, device)
        return torch.cat([model.features(x) for model in models], dim=1).float().cpu().numpy()

    identity = identity_of(CLASSIFIER, *(weights_digest(model) for model in models))
    side = loaded[0][1].image_size
    width = encode(np.zeros((1, side, side, 3), np.uint8)).shape[1]
    return Space(CLASSIFIER, identity, width, encode, batch)


def pca_space(train: np.ndarray, components: int, batch: int, seed: int) -> Space:
    """Return the space of the first principal components of raw pixels (N, H, W, 3) of the real training images.

    There are at most as many as training images. It compares pixels, and not what they show.
    """
    from sklearn.decomposition import PCA as PrincipalComponents

    chosen = np.linspace(0, len(train) - 1, min(PCA_IMAGES, len(train))).astype(np.int64)
    fitted_on = np.ascontiguousarray(train[chosen])
    pixels = _pixels(fitted_on)
    count = min(components, *pixels.shape)
    pca = PrincipalComponents(count, svd_solver="randomized", random_state=seed % 2**32).fit(pixels)

    def encode(images: np.ndarray) -> np.ndarray:
        return pca.transform(_pixels(images)).astype(np.float32)

    return Space(PCA, identity_of(PCA, count, PCA_SIDE, seed, content_of(fitted_on)), count, encode, batch)


def colour_space(batch: int) -> Space:
    """Return the space of square roots of the shares of pixels in 8 x 8 x 8 boxes of RGB.

    Roots make the straight distance of two histograms their Hellinger distance, up to a factor. It says which colours there
    are and not where: for judges of skin tones and drawing styles.
    """

    def encode(images: np.ndarray) -> np.ndarray:
        levels = (images.reshape(len(images), -1, 3).astype(np.int64) * BINS) >> 8
        box = np.ravel_multi_index((levels[..., 0], levels[..., 1], levels[..., 2]), (BINS,) * 3)
        place = box + np.arange(len(images))[:, None] * BINS**3
        counts = np.bincount(place.ravel(), minlength=len(images) * BINS**3).reshape(len(images), -1)
        return np.sqrt(counts / box.shape[1]).astype(np.float32)

    return Space(COLOURS, identity_of(COLOURS, BINS), BINS**3, encode, batch)


def _pixels(images: np.ndarray) -> np.ndarray:
    """Return images (B, H, W, 3) uint8 as rows (B, D) float32 in [0, 1], shrunk by averaging if they are large."""
    if max(images.shape[1:3]) <= PCA_SIDE:
        return images.reshape(len(images), -1).astype(np.float32) / 255
    shrunk = F.interpolate(unit_batch(images, torch.device("cpu")), (PCA_SIDE, PCA_SIDE), mode="area")
    return shrunk.permute(0, 2, 3, 1).reshape(len(images), -1).numpy()
