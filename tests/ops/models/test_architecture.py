"""Settings that do not fit together have a message that names them; old cards still validate."""

import pytest
from pydantic import ValidationError

from ops.models.config import Architecture


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": [8, 16]}, r"widths and blocks .* widths has 2 and blocks has 3"),
        ({"widths": []}, r"widths\n.*at least 1 item"),
        ({"widths": [8, 0, 8]}, r"widths\.1\n.*greater than or equal to 1"),
        ({"family": "wide_resnet", "depth": 29}, r"depth .* 6n \+ 4 .* not 29: try 28"),
        ({"family": "resnet9", "widths": [8]}, r"widths .* at least two"),
        ({"family": "vit", "dim": 64, "heads": 5}, r"heads .* dim is 64 and heads is 5: try heads 4"),
        ({"family": "vit", "image_size": 28, "patch": 8}, r"image_size is 28 and patch is 8: try patch 7"),
        ({"family": "vit", "dim": 2, "heads": 1, "mlp_ratio": 0.1}, r"mlp_ratio 0\.1"),
        ({"family": "resnet18"}, r"family\n.*'preact_resnet'"),
        ({"activation": "gelu"}, r"activation\n.*'silu' or 'relu'"),
        ({"stem": 1}, r"stem\n.*Extra inputs"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValidationError, match=message):
        Architecture(**settings)


def test_fields_of_other_families_are_not_checked():
    """A profile that changes only the family keeps what it inherits."""
    assert Architecture(family="resnet9", widths=[8, 16, 32, 64]).widths == [8, 16, 32, 64]
    assert Architecture(family="vit", depth=29, widths=[8]).family == "vit"
    assert Architecture(heads=5, patch=7).family == "preact_resnet"


def test_an_old_card_means_what_it_meant():
    old = {"family": "wide_resnet", "widths": [8], "blocks": [1], "stem_stride": 2, "depth": 16, "width": 4}
    found = Architecture.model_validate(old)
    assert found == Architecture(**old, activation="silu")
    assert Architecture.model_validate(found.model_dump(mode="json")) == found
