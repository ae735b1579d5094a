"""How the 3x3 convolutions of stride 1 and 2 become products: their transforms, and the tiles these are of."""

from typing import NamedTuple

SIDE = 3
"""Of a kernel, in pixels."""
STEP = 4
"""Pixels of a tile's side in the output."""


class Tiles(NamedTuple):
    """Of images, and what becomes of them or makes them; see `ops.models.kernels.winograd.transform`."""

    kind: str
    step: int
    before: int


class Scheme(NamedTuple):
    """The transforms of one stride."""

    points: int
    pixels: Tiles
    outputs: Tiles
    taps: tuple[str, str]
    """As they are, and turned by 180 degrees."""
    led_back: tuple[Tiles, Tiles]
    """Of the outputs' gradient, and to that of the pixels."""


SCHEMES = {
    1: Scheme(
        points=36,
        pixels=Tiles("pixels", STEP, 1),
        outputs=Tiles("outputs", STEP, 0),
        taps=("taps", "turned taps"),
        led_back=(Tiles("pixels", STEP, 1), Tiles("outputs", STEP, 0)),
    ),
    2: Scheme(
        points=81,
        pixels=Tiles("strided pixels", 2 * STEP, 0),
        outputs=Tiles("strided outputs", STEP, 0),
        taps=("strided taps", "turned strided taps"),
        led_back=(Tiles("led back pixels", STEP, 1), Tiles("led back outputs", 2 * STEP, 0)),
    ),
}


def transforms(stride: int, back: bool) -> tuple[Tiles, Tiles]:
    """Return how a convolution reads its input and writes its output."""
    scheme = SCHEMES[stride]
    return scheme.led_back if back else (scheme.pixels, scheme.outputs)


def multiplications(stride: int) -> float:
    """Return the multiplications of `winograd`, as a share of a direct convolution's, the transforms' aside."""
    return SCHEMES[stride].points / (SIDE**2 * STEP**2)


def count_tiles(height: int, width: int, side: int = STEP) -> int:
    """Return the number of tiles of so many pixels' side in one image."""
    return -(-height // side) * -(-width // side)
