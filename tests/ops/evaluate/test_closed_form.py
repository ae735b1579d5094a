"""The whole ensemble on linear models, whose robust accuracy is known: the share of images further than eps from a border."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ops.attack.attacks import Attack, published
from ops.attack.threat import Threat
from ops.data.loading import ImageSet
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.outcomes import attack_images

CPU = torch.device("cpu")
SIDE, IMAGES = 6, 1000
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


def linear(classes: int) -> nn.Sequential:
    """Return a linear model that is undecided on a grey image."""
    rng = torch.Generator().manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, classes)).eval()
    with torch.no_grad():
        model[1].weight.normal_(generator=rng)
        model[1].bias.copy_(-model[1].weight.sum(dim=1) / 2)
    return model


def pictures(model: nn.Module, count: int = IMAGES) -> ImageSet:
    """Return grey images, which no step takes to the border of the box, with the model's labels but for every 20th."""
    pixels = np.random.default_rng(0).integers(100, 156, (count, SIDE, SIDE, 3), dtype=np.uint8)
    table = pd.DataFrame({"id": [f"i{n}" for n in range(count)], "label": "a", "domain": "d"})
    table["attributes"] = [{} for _ in range(count)]
    blank = ImageSet(pixels, np.zeros(count, np.int64), table, ())
    with torch.no_grad():
        logits = model(blank.batch(range(count)))
    labels = logits.argmax(dim=1)
    labels[::20] = (labels[::20] + 1) % logits.shape[1]
    return ImageSet(pixels, labels.numpy(), table, tuple(f"class {k}" for k in range(logits.shape[1])))


def distances(model: nn.Sequential, images: ImageSet, norm: str) -> torch.Tensor:
    """Return how far (N,) each image is from the nearest wrong class, in double precision; negative where it is in one.

    The border to class k is a plane; min_k (z_y - z_k) / ||w_y - w_k||_q, q the dual of the norm.
    """
    w, b = model[1].weight.detach().double(), model[1].bias.detach().double()
    x, y = images.batch(range(len(images))).double().flatten(1), torch.from_numpy(images.labels)
    z = x @ w.T + b
    gaps = z.gather(1, y[:, None]) - z
    slopes = torch.linalg.vector_norm(w[y][:, None] - w[None], DUAL[norm], dim=2)
    return (gaps / slopes.masked_fill(slopes == 0, 1)).masked_fill(slopes == 0, torch.inf).amin(dim=1)


def radius(away: torch.Tensor, share: float = 0.35) -> float:
    """Return an eps that about this share of the images survives: in the middle of the widest gap near there."""
    ranked = away.sort(descending=True).values[round((share - 0.05) * len(away)) : round((share + 0.05) * len(away))]
    gaps = ranked[:-1] - ranked[1:]
    return float(ranked[gaps.argmax()] - gaps.max() / 2)


def evaluate(model: nn.Module, images: ImageSet, threat: Threat, batch: int = 500) -> pd.DataFrame:
    config = RobustnessConfig(splits=["test"], threats=[threat], attacks=attacks(threat.norm), batch=batch)
    return attack_images(model, "classifier/linear/seed-0", images, "test", threat, config, CPU)


def attacks(norm: str) -> list[Attack]:
    """Return the published list, but for 100 queries of Square in place of 5000, which would take minutes."""
    return [a.model_copy(update={"steps": 100}) if a.name == "square" else a for a in published("standard", norm)]


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", DUAL)
def test_robust_accuracy_is_the_closed_form(norm, classes):
    """Within 0.1 point, that is, one image of 1000; and no attack breaks what no attack can break."""
    model = linear(classes)
    images = pictures(model)
    away = distances(model, images, norm)
    threat = Threat(norm=norm, eps=radius(away))
    robust = (away > threat.eps).numpy()
    assert 0.25 < robust.mean() < 0.45
    assert threat.eps < 100 / 255, "the box must not bind"
    found = evaluate(model, images, threat)
    assert (found["clean"] == (away > 0).numpy()).all()
    assert found["robust"][robust].all()
    assert found["robust"].mean() - robust.mean() <= 0.001


@pytest.mark.parametrize("norm", DUAL)
def test_an_image_alone_meets_what_it_meets_among_others(norm):
    """In batches of one and of two with one left over, and as the only image: wrong, fallen or robust."""
    model = linear(4)
    images = pictures(model, 5)
    wrong, near, *others = distances(model, images, norm).sort().values
    eps = max(float(others[0] + near) / 2, 0.05 if norm == "l1" else 0)
    threat = Threat(norm=norm, eps=eps)
    whole = evaluate(model, images, threat)
    names = [attack.name for attack in attacks(norm)]
    outcomes = ["id", "predicted", "clean", *names, "robust"]
    assert wrong < 0 < whole["robust"].sum() < whole["clean"].sum() == 4
    for batch in (1, 2):
        pd.testing.assert_frame_equal(evaluate(model, images, threat, batch)[outcomes], whole[outcomes])
    for n in {0, int(whole["robust"].argmax()), int((whole["clean"] & ~whole["robust"]).argmax())}:
        alone = evaluate(model, images.subset([n]), threat, batch=1)
        pd.testing.assert_frame_equal(alone[outcomes], whole.iloc[[n]].reset_index(drop=True)[outcomes])
