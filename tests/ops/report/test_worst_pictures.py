"""Worst examples on the report's page: a bounded number of pictures, in the section on robustness."""

import base64

import numpy as np
from PIL import Image

from ops.report.html import WORST
from tests.ops.report.test_report import inputs, page  # noqa: F401 (a fixture)


def test_so_many_pictures_of_worst_examples_are_shown_the_first_by_name(inputs, tmp_path, recorder):  # noqa: F811
    assert "surest of a wrong class" not in page(inputs, tmp_path / "before", recorder)
    files = [inputs["robustness"] / "pictures" / f"worst-model-{number:02d}.png" for number in range(WORST + 2)]
    for number, file in enumerate(files):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(file)
    text = page(inputs, tmp_path / "after", recorder)
    shown = [base64.b64encode(file.read_bytes()).decode() in text for file in files]
    assert shown == [True] * WORST + [False] * 2
