"""One interface to latents and pixels: normalised, inverse, told apart."""

import pytest
import torch

from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.autoencoder import build_autoencoder
from ops.generate.codec import load_autoencoder, load_codec, save_pixel_codec
from ops.generate.config import AutoencoderConfig
from ops.generate.normalisation import latent_statistics, normalise_latents

CPU = torch.device("cpu")
CONFIG = AutoencoderConfig(channels=[8, 16], latent_channels=3, bf16=False)


def images(count: int = 12, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    """A folder with an autoencoder whose latents are far from normal, normalised over `images`."""
    model = build_autoencoder(CONFIG, 16)
    with torch.no_grad():
        model.quant_conv.bias[:3] += torch.tensor([5.0, -2.0, 0.5])
        model.quant_conv.weight[:3] *= torch.tensor([9.0, 0.2, 1.0]).view(3, 1, 1, 1)
    x = images() * 2 - 1
    normalise_latents(model, *latent_statistics(model, x.split(5)))
    model.save_pretrained(tmp_path / "latent" / "model")
    return tmp_path / "latent"


def test_statistics_are_those_of_all_latents_together():
    """Batches of unequal size count by their images."""
    model = build_autoencoder(CONFIG, 16)
    x = images() * 2 - 1
    mean, std = latent_statistics(model, x.split(5))
    with torch.no_grad():
        z = model.encode(x).latent_dist.mean.double()
    torch.testing.assert_close(mean, z.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(std, z.std(dim=(0, 2, 3), correction=0))


def test_latents_become_normal_and_reconstructions_stay():
    model = build_autoencoder(CONFIG, 16)
    x = images() * 2 - 1
    mean, std = torch.tensor([3.0, -1.0, 0.1]), torch.tensor([0.5, 4.0, 1.0])
    with torch.no_grad():
        before = model.encode(x).latent_dist
        shown = model.decode(before.mean).sample
        normalise_latents(model, mean, std)
        after = model.encode(x).latent_dist
        torch.testing.assert_close(model.decode(after.mean).sample, shown, atol=1e-5, rtol=1e-4)
    shape = (1, 3, 1, 1)
    torch.testing.assert_close(after.mean, (before.mean - mean.view(shape)) / std.view(shape), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.std, before.std / std.view(shape), atol=1e-5, rtol=1e-4)


def test_latents_of_a_loaded_codec_are_normal_in_each_channel(folder):
    codec = load_codec(folder, CPU)
    z = codec.encode(images())
    assert z.shape[1:] == codec.latent == (3, 8, 8)
    torch.testing.assert_close(z.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_a_latent_codec_is_the_autoencoder_on_pixels_in_0_and_1(folder):
    codec, model = load_codec(folder, CPU), load_autoencoder(folder, CPU)
    x = images(3)
    with torch.no_grad():
        z = model.encode(2 * x - 1).latent_dist.mean
        y = model.decode(z).sample
    torch.testing.assert_close(codec.encode(x), z)
    torch.testing.assert_close(codec.decode(z), ((y + 1) / 2).clamp(0, 1))
    assert not codec.decode(z.requires_grad_()).requires_grad


def test_pixels_are_normalised_and_come_back(tmp_path):
    x = images() * torch.tensor([0.2, 0.7, 1.0]).view(3, 1, 1)
    mean, std = x.mean(dim=(0, 2, 3)), x.std(dim=(0, 2, 3), correction=0)
    save_pixel_codec(tmp_path, 16, mean.tolist(), std.tolist())
    codec = load_codec(tmp_path, CPU)
    z = codec.encode(x)
    assert z.shape[1:] == codec.latent == (3, 16, 16)
    torch.testing.assert_close(z.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(z), x)
    assert 0 <= codec.decode(z * 9).min() < codec.decode(z * 9).max() <= 1


@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_values_that_are_no_numbers_stay_visible(space, folder, tmp_path):
    """A sampler that diverges must not become a black picture."""
    save_pixel_codec(tmp_path, 16, [0.5] * 3, [0.2] * 3)
    codec = load_codec(folder if space == "latent" else tmp_path, CPU)
    assert torch.isnan(codec.decode(torch.full((1, *codec.latent), float("nan")))).all()


def test_identity_follows_from_what_makes_the_latents(folder, tmp_path):
    before = load_codec(folder, CPU).identity
    assert load_codec(folder, CPU).identity == before
    model = load_autoencoder(folder, CPU)
    normalise_latents(model, torch.zeros(3), torch.full((3,), 2.0))
    model.save_pretrained(folder / "model")
    assert load_codec(folder, CPU).identity != before
    found = set()
    for std in (0.2, 0.3):
        save_pixel_codec(tmp_path, 16, [0.5] * 3, [std] * 3)
        found.add(load_codec(tmp_path, CPU).identity)
    assert len(found) == 2


def test_sides_that_cannot_be_halved_are_named(folder):
    with pytest.raises(AmalgamError, match="30x30 pixels cannot be made 4 times smaller"):
        build_autoencoder(CONFIG.model_copy(update={"channels": [8, 8, 16]}), 30)
    with pytest.raises(AmalgamError, match="16x15"):
        load_codec(folder, CPU).encode(torch.zeros(1, 3, 16, 15))


def test_folders_that_cannot_be_read_are_named(folder, tmp_path):
    with pytest.raises(AmalgamError, match="no autoencoder in nothing"):
        load_codec(tmp_path / "nothing", CPU)
    save_pixel_codec(tmp_path, 16, [0.5] * 3, [0.2] * 3)
    record = read_json(tmp_path / "pixels.json")
    write_json(tmp_path / "pixels.json", {**record, "mean": [0.5]})
    with pytest.raises(AmalgamError, match=r"pixels\.json"):
        load_codec(tmp_path, CPU)
    weights = next((folder / "model").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AmalgamError, match="no autoencoder in latent"):
        load_codec(folder, CPU)
