"""The names of the corruptions, and the published parameters of every severity.

Two tables, by the size of the images they were published for: `cifar` (32 x 32) and `imagenet` (224 x 224), from
hendrycks/robustness, `ImageNet-C/create_c/make_cifar_c.py` and `make_imagenet_c.py`. Only the published files are
CIFAR-10-C and ImageNet-C; what these parameters make of other images, or of the same images here, is "C-style".

Lengths are pixels and stay so at any size: a blur of one pixel is one pixel at 28 x 28 and at 64 x 64, so relative to
the picture it is stronger below the published size and weaker above. Zooms and `pixelate` are ratios; the map of `fog`
always spans the picture.
"""

from typing import Literal

from ops.errors import AmalgamError

Table = Literal["cifar", "imagenet"]
"""Which parameters: those published for 32 x 32 images, or for 224 x 224."""

Parameters = tuple[float, ...]
"""What one severity of one corruption is called with."""

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions of the benchmark, in the published order."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 that the authors set aside for validation."""

SEVERITIES = (1, 2, 3, 4, 5)

_CIFAR: dict[str, tuple[Parameters, ...]] = {
    # standard deviation
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    # photons at full intensity
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    # share of values that become black or white
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    # radius of the disk, sigma of its smoothing
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    # sigma of the blur, reach of a displacement, passes
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    # radius, sigma
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    # last zoom, step. The original's arange(1, 1.06, 0.01) and arange(1, 1.11, 0.01) run one step further than they
    # seem to, in floating point: that is how the published files were made
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)),
    # mean, standard deviation, zoom and threshold of the flakes; radius and sigma of their motion; weight of the image
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    # weight of the image, weight of the ice, scale of the ice (the original shrinks its photographs to a fifth)
    "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    # strength, decay of the roughness
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    # what is added to the value of HSV
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    # factor about the mean
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    # amplitude and smoothing of the displacement, reach of the affine jitter; published as shares of 32 pixels
    "elastic_transform": (
        (32 * 0.0, 32 * 0.0, 32 * 0.08),
        (32 * 0.05, 32 * 0.2, 32 * 0.07),
        (32 * 0.08, 32 * 0.06, 32 * 0.06),
        (32 * 0.1, 32 * 0.04, 32 * 0.05),
        (32 * 0.1, 32 * 0.03, 32 * 0.03),
    ),
    # side that is left
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    # quality
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
    # standard deviation as a share of the intensity
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    # sigma
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
    # mean, standard deviation, smoothing and threshold of the liquid; strength of water or smoothing of mud; 1 for mud
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    # factor and summand of the saturation of HSV
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}

_IMAGENET: dict[str, tuple[Parameters, ...]] = {
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.11, 0.01), (1.15, 0.01), (1.20, 0.02), (1.24, 0.02), (1.30, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    # 244 is the original's, where 224 was meant
    "elastic_transform": (
        (244 * 2, 244 * 0.7, 244 * 0.1),
        (244 * 2, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    ),
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
    "speckle_noise": ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    "gaussian_blur": ((1,), (2,), (3,), (4,), (6,)),
    "spatter": (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
}

_TABLES: dict[str, dict[str, tuple[Parameters, ...]]] = {"cifar": _CIFAR, "imagenet": _IMAGENET}


def parameters(name: str, severity: int, table: Table) -> Parameters:
    """Return the published parameters of one severity of one corruption.

    Args:
        name: one of `CORRUPTIONS` or `EXTRA`.
        severity: 1 (mild) to 5.
        table: `cifar` or `imagenet`.

    Raises:
        AmalgamError: there is no such corruption, severity or table.
    """
    if table not in _TABLES:
        raise AmalgamError(f"there is no table of corruptions {table!r}", f"choose one of: {', '.join(_TABLES)}")
    if name not in CORRUPTIONS + EXTRA:
        known = ", ".join(CORRUPTIONS + EXTRA)
        raise AmalgamError(f"there is no corruption {name!r}", f"choose one of: {known}")
    if severity not in SEVERITIES:
        raise AmalgamError(f"there is no severity {severity!r}", "choose a whole number from 1 to 5")
    return _TABLES[table][name][int(severity) - 1]
