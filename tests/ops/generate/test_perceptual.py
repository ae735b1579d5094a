"""The perceptual distance against its formula, written out, and against what it is for."""

import pytest
import torch

from ops.errors import AmalgamError
from ops.generate.perceptual import activations, load_judges, perceptual_distance, stages
from ops.models.base import Classifier
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture

CPU = torch.device("cpu")
NETWORKS = {
    "preact_resnet": Architecture(family="preact_resnet", widths=[8, 16, 24], blocks=[2, 1, 1], stem_stride=2),
    "wide_resnet": Architecture(family="wide_resnet", depth=10, width=1),
    "resnet9": Architecture(family="resnet9", widths=[8, 8, 16]),
    "vit": Architecture(family="vit", image_size=16, patch=4, dim=16, layers=5, heads=2),
}


def classifier(family: str, seed: int = 0) -> Classifier:
    model = build_classifier(NETWORKS[family], 3, [0.5] * 3, [0.25] * 3, seed)
    return model.eval().requires_grad_(False)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("preact_resnet", [(8, 8, 8), (16, 4, 4), (24, 2, 2)]),
        ("wide_resnet", [(16, 16, 16), (32, 8, 8), (64, 4, 4)]),
        ("resnet9", [(8, 16, 16), (8, 8, 8), (16, 4, 4)]),
        ("vit", [(16, 16)] * 4),
    ],
)
def test_each_resolution_is_compared_once(family, shapes):
    found = activations(classifier(family), images(2))
    assert [tuple(f.shape[1:]) for f in found] == shapes
    for f in found:
        torch.testing.assert_close(f.norm(dim=1), torch.ones_like(f[:, 0]))


def test_stages_are_what_the_network_computes_on_its_way():
    """The last stage of a residual network is the activated map whose mean are the features."""
    model, x = classifier("preact_resnet"), images(3)
    kept = {}
    handle = model.norm.register_forward_hook(lambda _module, _given, made: kept.update(last=made))
    features = model.features(x)
    handle.remove()
    last = activations(model, x)[-1]
    torch.testing.assert_close(kept["last"].mean(dim=(2, 3)), features)
    torch.testing.assert_close(last, kept["last"] / kept["last"].pow(2).sum(dim=1, keepdim=True).sqrt())


def test_the_distance_is_the_formula_written_out():
    """Zhang et al. 2018, equation 1 with weights of one, pixel by pixel; the mean of the stages instead of their sum."""
    model, x, y = classifier("preact_resnet"), images(2), images(2, seed=1)
    total = torch.zeros(2, dtype=torch.float64)
    modules = stages(model)
    for module in modules:
        kept = []
        handle = module.register_forward_hook(lambda _module, _given, made, kept=kept: kept.append(made.double()))
        model.features(x), model.features(y)
        handle.remove()
        for n in range(2):
            pixels = []
            for i in range(kept[0].shape[2]):
                for j in range(kept[0].shape[3]):
                    a, b = kept[0][n, :, i, j], kept[1][n, :, i, j]
                    pixels.append(float(((a / a.norm() - b / b.norm()) ** 2).sum()))
            total[n] += sum(pixels) / len(pixels)
    torch.testing.assert_close(perceptual_distance(model, x, y).double(), total / len(modules), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", list(NETWORKS))
def test_equal_images_have_no_distance_and_noise_adds_some(family):
    model, x = classifier(family), images(4)
    noise = images(4, seed=2) - 0.5
    assert float(perceptual_distance(model, x, x).abs().max()) < 1e-6
    near, far = (perceptual_distance(model, x, x + scale * noise) for scale in (0.05, 0.5))
    assert (near > 0).all()
    assert (near < far).all()
    assert (far <= 4).all()


def test_only_the_reconstruction_gets_a_gradient_and_flat_images_give_numbers():
    model = classifier("preact_resnet")
    x, y = images(2).requires_grad_(), torch.zeros(2, 3, 16, 16, requires_grad=True)
    perceptual_distance(model, x, y).sum().backward()
    assert x.grad is None
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().max() > 0
    assert not any(module._forward_hooks for module in model.modules())


def test_descent_on_the_distance_brings_the_image_nearer():
    model, x = classifier("resnet9"), images(1)
    y = images(1, seed=3).requires_grad_()
    optimizer = torch.optim.Adam([y], lr=0.02)
    first = float(perceptual_distance(model, x, y.detach()))
    for _ in range(30):
        optimizer.zero_grad()
        perceptual_distance(model, x, y).sum().backward()
        optimizer.step()
    assert float(perceptual_distance(model, x, y.detach())) < 0.5 * first


def test_judges_are_loaded_by_name_and_frozen(tmp_path):
    for name, seed in (("b", 1), ("a", 0)):
        card = ModelCard(
            name=name,
            architecture=NETWORKS["preact_resnet"],
            classes=["x", "y", "z"],
            image_size=16,
            mean=[0.5] * 3,
            std=[0.25] * 3,
            seed=seed,
            ancestor="",
            recipe={},
        )
        save_classifier(tmp_path / name, classifier("preact_resnet", seed), card)
    judges = load_judges({"b": tmp_path / "b", "a": tmp_path / "a"}, CPU)
    assert not any(p.requires_grad for judge in judges for p in judge.parameters())
    torch.testing.assert_close(judges[0].stem.weight, classifier("preact_resnet", 0).stem.weight)
    torch.testing.assert_close(judges[1].stem.weight, classifier("preact_resnet", 1).stem.weight)
    with pytest.raises(AmalgamError, match=r"model\.json is missing"):
        load_judges({"c": tmp_path / "c"}, CPU)


def test_a_network_of_unknown_stages_cannot_judge():
    class Odd(Classifier):
        def features(self, x):
            return x.mean(dim=(2, 3))

    with pytest.raises(AmalgamError, match="stages of a Odd are not known"):
        stages(Odd(3, 2))
