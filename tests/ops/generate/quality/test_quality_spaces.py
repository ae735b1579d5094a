"""Feature spaces: what they are made of, what they remember, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
)

from ops.errors import AmalgamError
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import classifier_space, colour_space, lite0_space, make_spaces, pca_space
from ops.generate.quality.spaces import Space, content_of
from ops.generate.quality.vision import vision_space
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture
from ops.progress import Silent

CPU = torch.device("cpu")
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
CLIP_VISION = {**SMALL, "image_size": 24}
VISION = {
    "vit": lambda: ViTModel(ViTConfig(**SMALL, image_size=24)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**{**SMALL, "intermediate_size": None, "mlp_ratio": 2}, image_size=24)),
    "clip_vision_model": lambda: CLIPVisionModel(CLIPVisionConfig(**CLIP_VISION)),
    "clip": lambda: CLIPModel(
        CLIPConfig(
            vision_config=CLIP_VISION,
            text_config={k: v for k, v in SMALL.items() if k != "patch_size"} | {"vocab_size": 50},
            projection_dim=12,
        )
    ),
}


def images(count: int = 10, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def save_vision(tmp_path):
    """Return a function that saves a tiny encoder with random weights as save_pretrained does, and returns the folder."""

    def save(kind: str, **preprocessor):
        torch.manual_seed(0)
        folder = tmp_path / kind
        VISION[kind]().save_pretrained(folder)
        settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], **preprocessor}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        return folder

    return save


def test_features_are_kept_by_content_and_identity(tmp_path):
    calls = []

    def encode(batch):
        calls.append(len(batch))
        return batch.reshape(len(batch), -1)[:, :4].astype(np.float32)

    x = images()
    found = Space("test", "one", 4, encode, batch=4).embed(x, tmp_path, Silent())
    np.testing.assert_array_equal(found, x.reshape(10, -1)[:, :4])
    assert calls == [4, 4, 2]
    Space("test", "one", 4, encode, batch=4).embed(x.copy(), tmp_path, Silent())
    assert len(calls) == 3, "the same images are not embedded again"
    changed = x.copy()
    changed[3, 0, 0, 0] ^= 1
    Space("test", "one", 4, encode, batch=4).embed(changed, tmp_path, Silent())
    Space("test", "two", 4, encode, batch=4).embed(x, tmp_path, Silent())
    assert len(calls) == 9
    assert content_of(x) != content_of(x.reshape(10, 8, 32, 3))


def test_features_that_are_no_numbers_are_refused_and_not_kept(tmp_path):
    def encode(batch):
        return np.full((len(batch), 2), np.nan, np.float32)

    with pytest.raises(AmalgamError, match="in the space broken are no numbers"):
        Space("broken", "x", 2, encode).embed(images(), tmp_path, Silent())
    assert not list((tmp_path / "features").iterdir())


def test_colours_are_the_roots_of_shares():
    x = np.zeros((2, 2, 2, 3), np.uint8)
    x[1, 0, 0] = 255
    x[1, 0, 1] = 31  # still the darkest box of 32 levels
    found = colour_space(8).encode(x)
    assert found.shape == (2, 512)
    np.testing.assert_allclose(found[0, :1], 1)
    np.testing.assert_allclose(found[1, [0, -1]], [0.75**0.5, 0.5])
    np.testing.assert_allclose((found**2).sum(axis=1), 1)


@pytest.mark.parametrize("side", [16, 64])
def test_pca_keeps_distances_when_it_keeps_all_components(side):
    x = images(12, side)
    space = pca_space(x, 64, 8, 0)
    assert space.width == 12, "no more components than images"
    found = space.encode(x)
    pixels = x.reshape(12, -1) / 255
    if side > 32:
        pixels = x.reshape(12, 32, 2, 32, 2, 3).mean(axis=(2, 4)).reshape(12, -1) / 255
    for a, b in ((0, 1), (3, 7)):
        expected = np.linalg.norm(pixels[a] - pixels[b])
        assert np.linalg.norm(found[a] - found[b]) == pytest.approx(expected, rel=1e-4)
    assert pca_space(images(12, side, seed=1), 64, 8, 0).identity != space.identity


def test_classifier_features_give_the_logits(tmp_path):
    architecture = Architecture(family="resnet9", widths=[4, 6])
    x, folders, expected = images(), {}, []
    for seed in range(2):
        model = build_classifier(architecture, 3, [0.5] * 3, [0.3] * 3, seed)
        torch.nn.init.normal_(model.head.weight)
        card = ModelCard(
            name="scorer",
            architecture=architecture,
            classes=["a", "b", "c"],
            image_size=16,
            mean=[0.5] * 3,
            std=[0.3] * 3,
            seed=seed,
            ancestor="",
        )
        folders[f"scorer/seed-{seed}"] = tmp_path / str(seed)
        save_classifier(tmp_path / str(seed), model, card)
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(x).permute(0, 3, 1, 2) / 255)
        expected.append((model.head, logits))
    space = classifier_space(folders, 4, CPU)
    found = torch.from_numpy(space.encode(x))
    assert found.shape == (10, 12) == (10, space.width)
    for number, (head, logits) in enumerate(expected):
        torch.testing.assert_close(head(found[:, 6 * number : 6 * number + 6]), logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(AmalgamError, match="needs a trained classifier"):
        classifier_space({}, 4, CPU)


def test_imagenet_features_do_not_depend_on_the_batch():
    space = lite0_space(32, 4, CPU)
    x = images(6)
    found = space.encode(x)
    assert found.shape == (6, 1280)
    np.testing.assert_allclose(np.concatenate([space.encode(x[:1]), space.encode(x[1:])]), found, rtol=1e-3, atol=1e-4)
    assert lite0_space(64, 4, CPU).identity != space.identity


@pytest.mark.parametrize(("kind", "width"), [("vit", 16), ("dinov2", 16), ("clip_vision_model", 16), ("clip", 12)])
def test_encoders_of_transformers_are_spaces(kind, width, save_vision):
    folder = save_vision(kind)
    space = vision_space("mine", folder, 4, CPU)
    x = images(3, 24)
    assert (space.name, space.width) == ("mine", width)
    pixels = (torch.from_numpy(x).permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / (
        torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
    )
    model = type(VISION[kind]()).from_pretrained(folder).eval()
    with torch.no_grad():
        if kind == "clip":
            expected = model.visual_projection(model.vision_model(pixels).pooler_output)
        elif kind == "clip_vision_model":
            expected = model(pixels).pooler_output
        else:
            expected = model(pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(space.encode(x), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_preprocessor_says_the_side(save_vision):
    space = vision_space("mine", save_vision("dinov2", crop_size={"height": 32, "width": 32}), 4, CPU)
    x = images(2, 32)
    assert not np.allclose(space.encode(x), vision_space("mine", save_vision("dinov2"), 4, CPU).encode(x))


def test_encoders_that_cannot_be_trusted_or_read_are_refused(save_vision, tmp_path):
    folder = save_vision("vit")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    with pytest.raises(AmalgamError, match="image_mean and image_std"):
        vision_space("mine", folder, 4, CPU)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(AmalgamError, match=r"no preprocessor_config\.json"):
        vision_space("mine", folder, 4, CPU)
    folder = save_vision("vit")
    save_file({k: v for k, v in tensors.items() if "layernorm.weight" not in k}, weights, {"format": "pt"})
    with pytest.raises(AmalgamError, match=r"lack 1 tensors, such as layernorm\.weight"):
        vision_space("mine", folder, 4, CPU)
    save_file({k: v for k, v in tensors.items() if "pooler" not in k}, weights, {"format": "pt"})
    assert vision_space("mine", folder, 4, CPU).width == 16, "features do not need the pooler"
    weights.write_bytes(b"damaged")
    with pytest.raises(AmalgamError, match="cannot be read"):
        vision_space("mine", folder, 4, CPU)
    weights.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(AmalgamError, match=r"no model\.safetensors"):
        vision_space("mine", folder, 4, CPU)
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet" / "preprocessor_config.json").write_text("{}")
    with pytest.raises(AmalgamError, match="of type resnet"):
        vision_space("mine", tmp_path / "resnet", 4, CPU)


def test_spaces_are_those_that_the_settings_name(save_vision):
    config = QualityConfig(spaces=["pca", "mine"], judges=["colours"], encoders={"mine": "data/mine"})
    spaces = make_spaces(config, images(20), {}, {"mine": save_vision("vit")}, CPU)
    assert list(spaces) == ["pca", "mine", "colours"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spaces": ["inception"]}, "spaces names inception"),
        ({"judges": ["pca", "pca"]}, "twice"),
        ({"encoders": {"pca": "data/x"}}, "built in"),
        ({"min_group": 10, "neighbours": 10}, "larger than neighbours"),
        ({"utility": {"initialisation": "real", "schedule": {"epochs": 1}}}, "scratch"),
        ({"utility": {"mix": {"real_fraction": 0.5}, "schedule": {"epochs": 1}}}, "one source alone"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        QualityConfig.model_validate(settings)
