"""Elastic deformation: a random affine map and a smooth random displacement."""

import numpy as np

from ops.evaluate.corruptions.draws import Generators, uniform
from ops.evaluate.corruptions.resampling import bilinear, smooth


def elastic_transform(
    images: np.ndarray, generators: Generators, amplitude: float, sigma: float, jitter: float
) -> np.ndarray:
    """Return the images under a random affine map, then displaced by smoothed noise.

    As in the original, which cites Simard et al. (2003): three points around the centre move by up to `jitter` in each
    direction, which fixes the affine map; then each pixel reads at a distance of `amplitude` times noise uniform in
    [-1, 1] and blurred by `sigma`. The image is interpolated linearly both times, so it also loses sharpness.

    Deviations: places are exact, where versions of OpenCV's `warpAffine` before 5 round them to 1/32 of a pixel; and the
    original gives height for width in the triangle's centre, which is the same for its square images only.

    Args:
        images: (N, H, W, 3) float64 in [0, 1].
        generators: one for each image.
        amplitude: of the displacement, pixels.
        sigma: standard deviation of the Gaussian that smooths the displacement, pixels; 0 for none.
        jitter: reach of each point's movement, pixels.

    Returns:
        (N, H, W, 3) float64 in [0, 1]. Source: hendrycks/robustness, `make_cifar_c.py`.
    """
    _, height, width, _ = images.shape
    moves = jitter * (2 * uniform(generators, (3, 2)) - 1)
    rows, columns = _affine_places(height, width, moves)
    images = bilinear(images, rows, columns, "mirror")
    if amplitude == 0:
        return images
    noise = 2 * uniform(generators, (2, height, width)) - 1
    right, down = (amplitude * smooth(noise[:, i], sigma, "reflect", truncate=3) for i in (0, 1))
    rows = np.arange(height)[None, :, None] + down
    columns = np.arange(width)[None, None, :] + right
    return bilinear(images, rows, columns, "reflect")


def _affine_places(height: int, width: int, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and column (N, H, W) at which each pixel reads, when three points move by `moves` (N, 3, 2)."""
    x, y, reach = width // 2, height // 2, min(height, width) // 3
    points = np.array([[x + reach, y + reach], [x + reach, y - reach], [x - reach, y - reach]], dtype=np.float64)
    ones = np.ones((len(moves), 3, 1))
    # the map back, from where the points went to where they were: [x', y', 1] back = [x, y]
    back = np.linalg.solve(np.concatenate([points + moves, ones], axis=2), np.broadcast_to(points, moves.shape))
    across, down = np.arange(width)[None, None, :], np.arange(height)[None, :, None]
    columns, rows = (
        back[:, 0, i, None, None] * across + back[:, 1, i, None, None] * down + back[:, 2, i, None, None]
        for i in (0, 1)
    )
    return rows, columns
