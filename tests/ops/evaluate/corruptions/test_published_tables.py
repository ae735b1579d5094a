"""The tables against the published parameters, written down here once more, number by number.

From hendrycks/robustness, `make_cifar_c.py` and `make_imagenet_c.py` in `ImageNet-C/create_c`; of `zoom_blur` the
arguments of `arange`.
"""

import numpy as np
import pytest

from ops.evaluate.corruptions.tables import CORRUPTIONS, EXTRA, SEVERITIES, parameters

CIFAR = """
gaussian_noise     .04 | .06 | .08 | .09 | .10
shot_noise         500 | 250 | 100 | 75 | 50
impulse_noise      .01 | .02 | .03 | .05 | .07
defocus_blur       .3 .4 | .4 .5 | .5 .6 | 1 .2 | 1.5 .1
glass_blur         .05 1 1 | .25 1 1 | .4 1 1 | .25 1 2 | .4 1 2
motion_blur        6 1 | 6 1.5 | 6 2 | 8 2 | 9 2.5
zoom_blur          1 1.06 .01 | 1 1.11 .01 | 1 1.16 .01 | 1 1.21 .01 | 1 1.26 .01
snow               .1 .2 1 .6 8 3 .95 | .1 .2 1 .5 10 4 .9 | .15 .3 1.75 .55 10 4 .9 | .25 .3 2.25 .6 12 6 .85 | .3 .3 1.25 .65 14 12 .8
frost              1 .2 | 1 .3 | .9 .4 | .85 .4 | .75 .45
fog                .2 3 | .5 3 | .75 2.5 | 1 2 | 1.5 1.75
brightness         .05 | .1 | .15 | .2 | .3
contrast           .75 | .5 | .4 | .3 | .15
elastic_transform  0 0 .08 | .05 .2 .07 | .08 .06 .06 | .1 .04 .05 | .1 .03 .03
pixelate           .95 | .9 | .85 | .75 | .65
jpeg_compression   80 | 65 | 58 | 50 | 40
speckle_noise      .06 | .1 | .12 | .16 | .2
gaussian_blur      .4 | .6 | .7 | .8 | 1
spatter            .62 .1 .7 .7 .5 0 | .65 .1 .8 .7 .5 0 | .65 .3 1 .69 .5 0 | .65 .1 .7 .69 .6 1 | .65 .1 .5 .68 .6 1
saturate           .3 0 | .1 0 | 1.5 0 | 2 .1 | 2.5 .2
"""  # noqa: E501

IMAGENET = """
gaussian_noise     .08 | .12 | .18 | .26 | .38
shot_noise         60 | 25 | 12 | 5 | 3
impulse_noise      .03 | .06 | .09 | .17 | .27
defocus_blur       3 .1 | 4 .5 | 6 .5 | 8 .5 | 10 .5
glass_blur         .7 1 2 | .9 2 1 | 1 2 3 | 1.1 3 2 | 1.5 4 2
motion_blur        10 3 | 15 5 | 15 8 | 15 12 | 20 15
zoom_blur          1 1.11 .01 | 1 1.16 .01 | 1 1.21 .02 | 1 1.26 .02 | 1 1.31 .03
snow               .1 .3 3 .5 10 4 .8 | .2 .3 2 .5 12 4 .7 | .55 .3 4 .9 12 8 .7 | .55 .3 4.5 .85 12 8 .65 | .55 .3 2.5 .85 12 12 .55
frost              1 .4 | .8 .6 | .7 .7 | .65 .7 | .6 .75
fog                1.5 2 | 2 2 | 2.5 1.7 | 2.5 1.5 | 3 1.4
brightness         .1 | .2 | .3 | .4 | .5
contrast           .4 | .3 | .2 | .1 | .05
pixelate           .6 | .5 | .4 | .3 | .25
jpeg_compression   25 | 18 | 15 | 10 | 7
speckle_noise      .15 | .2 | .35 | .45 | .6
gaussian_blur      1 | 2 | 3 | 4 | 6
spatter            .65 .3 4 .69 .6 0 | .65 .3 3 .68 .6 0 | .65 .3 2 .68 .5 0 | .65 .3 1 .65 1.5 1 | .67 .4 1 .65 1.5 1
saturate           .3 0 | .1 0 | 2 0 | 5 .1 | 20 .2
"""  # noqa: E501

ZOOMS = {
    "cifar": ([7, 1.06], [12, 1.11], [16, 1.15], [21, 1.2], [26, 1.25]),
    "imagenet": ([12, 1.11], [16, 1.15], [11, 1.2], [13, 1.24], [11, 1.3]),
}
"""How many zooms there are, and the last: floating point lets some ranges run one step further than they seem to."""

ICE = {"cifar": 0.2, "imagenet": 1}
"""The scale of the photographs of frost, which the originals write elsewhere."""


def read(text: str) -> dict[str, list[tuple[float, ...]]]:
    """Return the table: for each corruption the parameters of each severity."""
    lines = [line.partition(" ") for line in text.strip().splitlines()]
    return {name: [tuple(map(float, part.split())) for part in rest.split("|")] for name, _, rest in lines}


WRITTEN = {"cifar": read(CIFAR), "imagenet": read(IMAGENET)}


def cases():
    """Yield every corruption and severity of both tables with what was published, but for `zoom_blur`."""
    for table, written in WRITTEN.items():
        for name, levels in written.items():
            assert len(levels) == 5, (table, name)
            for severity, expected in zip(SEVERITIES, levels, strict=True):
                if name == "frost":
                    expected = (*expected, ICE[table])
                if name == "elastic_transform":
                    expected = tuple(32 * share for share in expected)
                if name != "zoom_blur":
                    yield pytest.param(table, name, severity, expected, id=f"{table}-{name}-{severity}")


@pytest.mark.parametrize(("table", "name", "severity", "expected"), cases())
def test_parameters_are_the_published_ones(table, name, severity, expected):
    assert parameters(name, severity, table) == pytest.approx(expected, abs=1e-12)


def test_nothing_is_left_out():
    assert set(WRITTEN["cifar"]) == {*CORRUPTIONS, *EXTRA}
    assert set(WRITTEN["imagenet"]) == {*CORRUPTIONS, *EXTRA} - {"elastic_transform"}, "it has a test of its own"


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_of_large_images_has_the_slip_of_the_original(severity):
    """Shares of 244 pixels, where 224 was meant."""
    shares = [(2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)]
    expected = [244 * share for share in shares[severity - 1]]
    assert parameters("elastic_transform", severity, "imagenet") == pytest.approx(expected)


@pytest.mark.parametrize("table", WRITTEN)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_zooms_are_those_of_the_published_ranges(table, severity):
    """The one deviation in form: our table has the last zoom that the original reaches, and not where its range ends."""
    zooms = np.arange(*WRITTEN[table]["zoom_blur"][severity - 1])
    assert [len(zooms), zooms[-1]] == pytest.approx(ZOOMS[table][severity - 1])
    last, step = parameters("zoom_blur", severity, table)
    np.testing.assert_allclose(1 + step * np.arange(round((last - 1) / step) + 1), zooms)
