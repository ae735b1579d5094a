"""Pictures of the generator are as wide as their images, whatever there is to say of them."""

import numpy as np
import pytest
from PIL import Image

from ops.data.pictures import labelled_rows
from ops.generate.diffusion_pictures import COLUMNS, wrapped

LINEAGE = (
    "samples; data/generators/emoji-people/diffusion (3000 steps of the autoencoder and 7000 of the diffusion model, "
    "trained by `python -m benchmarks.generator`, seed 0), then 100 steps here"
)


@pytest.mark.parametrize("classes", [2, 7])
def test_a_long_title_does_not_widen_the_picture(classes, tmp_path):
    rows = {f"class {i}": np.zeros((COLUMNS, 32, 32, 3), np.uint8) for i in range(classes)}
    widths = {}
    for name, shown in (("short", "samples"), ("wrapped", wrapped(LINEAGE)), ("long", LINEAGE)):
        labelled_rows(rows, tmp_path / f"{name}.png", shown, COLUMNS)
        widths[name] = Image.open(tmp_path / f"{name}.png").width
    assert widths["wrapped"] == widths["short"] < widths["long"]
    assert wrapped(LINEAGE).split() == LINEAGE.split(), "nothing is left out"
