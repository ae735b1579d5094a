"""Two ways to give a judge its scores: what a classifier sees, and how near real images are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ops.errors import AmalgamError
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.judge import Judge

if TYPE_CHECKING:
    from ops.data.loading import ImageSet


def asked_label_judge(
    config: PreferenceConfig, name: str, sources: "Mapping[str, ImageSet]", probabilities: Mapping[str, np.ndarray]
) -> Judge:
    """Return a judge that prefers the image in which a classifier sees more of the asked label.

    `probabilities` (N, K) are those of a classifier for each generator's images, in their order. It should have learned
    from real images that neither generator was trained on; it knows labels, not the rest of a prompt, so that it can stand
    for no more than part of prompt-image alignment. Probabilities within `config.tie_margin` are a tie.

    Raises AmalgamError for probabilities that do not fit the images and their classes.
    """
    scores = {}
    for source, images in sources.items():
        found = np.asarray(probabilities.get(source, ()))
        if found.shape != (len(images), len(images.classes)):
            raise AmalgamError(
                f"the probabilities for {source} have the shape {found.shape}, not {(len(images), len(images.classes))}",
                "classify all images of every generator, with a classifier of the same classes",
            )
        scores[source] = found[np.arange(len(images)), images.labels]
    return Judge(name, scores, config.tie_margin)


def nearest_real_judge(name: str, features: Mapping[str, np.ndarray], real: np.ndarray, margin: float) -> Judge:
    """Return a judge that prefers the image whose features are nearer to those of some real image.

    `features` (N, D) are those of each generator's images, `real` (M, D) of real ones that no generator was trained on: near
    to those it was trained on is what a copy is. Euclidean distances within `margin` are a tie. It sees no prompt, and is
    blind to variety: a generator that makes one good image over and over pleases it.

    Raises AmalgamError where there are no real images or features are of different lengths.
    """
    from sklearn.neighbors import NearestNeighbors

    if not len(real) or any(part.shape[1:] != real.shape[1:] for part in features.values()):
        raise AmalgamError(
            "features of generated and real images do not match", "use one network for both, on some images"
        )
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(real)  # brute: in chunks of bounded memory
    return Judge(name, {source: -nearest.kneighbors(part)[0][:, 0] for source, part in features.items()}, margin)
