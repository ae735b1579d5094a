"""The generator's benchmark: sides that must agree do, and its figures are what they say."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn

from benchmarks.generation_cost import write_plan
from benchmarks.generation_sampling import Outcome, Plan, compared, how_much_further, label
from benchmarks.generation_training import Paced, Study, difference, kind_of, operations, train, where_the_time_goes
from benchmarks.stock_sampling import Unconditional, ddim, ddpm, nothing
from benchmarks.study_folders import Writer
from benchmarks.textbook_diffusion import encoding, keeping, textbook
from ops.data.loading import ImageSet
from ops.generate.autoencoder import build_autoencoder
from ops.generate.codec import KLCodec, PixelCodec
from ops.generate.config import AutoencoderConfig
from ops.generate.diffusion import build_model
from ops.generate.generator import Generator
from ops.generate.guidance import guided_denoiser
from ops.generate.model_config import DDPMConfig, DiffusionConfig, UNetConfig
from ops.generate.objectives import DDPM
from ops.generate.quality.frechet import gaussian
from ops.generate.sampler_config import SamplerConfig
from ops.generate.solvers import solve
from ops.generate.text import encode_captions
from ops.progress import Silent
from ops.sample.schema import ROW_SCHEMA

CPU = torch.device("cpu")
BACKBONE = UNetConfig(channels=[8, 16], head_width=8)
VALUES = {"label": ["bar", "disc"], "domain": ["paper"]}


class Losses(Silent):
    def __init__(self):
        self.seen = []

    def progress(self, done, total, unit="it", **figures):
        if unit == "step":
            self.seen.append(figures["loss"])


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Return a tiny study: 24 random images with captions of several lengths, one longer than what is kept."""
    rng = np.random.default_rng(0)
    captions = [
        "a bar",
        "a drawing of a disc, in paper style",
        "disc",
        "a bar on paper, and much more than is kept of it",
    ]
    table = pd.DataFrame(
        {
            "id": [f"image-{i}" for i in range(24)],
            "caption": [captions[i % 4] for i in range(24)],
            "label": [VALUES["label"][i % 2] for i in range(24)],
            "domain": "paper",
            "attributes": [{}] * 24,
            "weight": rng.uniform(0.5, 1, 24),
        }
    )
    images = ImageSet(rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8), np.arange(24) % 2, table, ("bar", "disc"))
    config = DiffusionConfig(backbone=BACKBONE, context=8, max_tokens=10, steps=8, batch=8)
    autoencoder = build_autoencoder(AutoencoderConfig(channels=[8, 16], latent_channels=4), 16)
    codec = KLCodec(autoencoder.eval().requires_grad_(False), "untrained")
    text = encode_captions(table["caption"].tolist(), 10, tmp_path_factory.mktemp("cache"), CPU, Silent())
    model = build_model(config, codec.latent, VALUES, text.width)
    nn.init.normal_(model.backbone.conv_out.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    return Study(config, images, codec, text, model)


@pytest.fixture(scope="module")
def losses(study) -> list[float]:
    heard = Losses()
    train(study, study.material(), range(study.config.steps), heard)
    return heard.seen


@pytest.mark.parametrize("encoded", ["anew", "once"])
def test_the_textbook_reaches_our_losses(encoded, study, losses):
    material = study.material()
    prepare = encoding(study.images, study.codec, 10) if encoded == "anew" else keeping(material)
    step = textbook(study.config, study.model, material.codes, material.weights, prepare)
    found = [step(number) for number in range(study.config.steps)]
    assert difference(losses, found) < (1e-5 if encoded == "once" else 1e-3)
    assert np.ptp(losses) > 0.01, "losses that never change would agree whatever the sides do"


def test_another_rate_is_not_the_same_training(study, losses):
    """The comparison of losses can fail: it sees a learning rate that is a tenth too high."""
    material = study.material()
    other = study.config.model_copy(update={"lr": 1.1 * study.config.lr})
    step = textbook(other, study.model, material.codes, material.weights, keeping(material))
    assert difference(losses, [step(number) for number in range(study.config.steps)]) > 1e-5


def test_both_sides_leave_the_study_as_it_was(study, losses):
    again = Losses()
    train(study, study.material(), range(study.config.steps), again)
    assert again.seen == losses


def test_operations_of_convolutions_are_counted_forward_and_twice_backward(study):
    """By hand: products of each output with its window, for output, weights and input; images want no gradient."""
    forward = {}

    def count(module, inputs, output):
        forward[module] = 2 * output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in study.model.modules() if isinstance(m, nn.Conv2d)]
    counted = operations(study)
    for hook in hooks:
        hook.remove()
    assert counted["convolutions"] == 3 * sum(forward.values()) - forward[study.model.backbone.conv_in]
    assert counted["products of matrices"] > 0


def test_the_shares_of_a_steps_time_add_up(study):
    shares = where_the_time_goes(study, steps=1)
    assert sum(share for share, _ in shares.values()) == pytest.approx(1)
    assert all(seconds > 0 for _, seconds in shares.values()), "a kind that never occurs has a wrong name"


def test_kinds_of_operations():
    assert kind_of("aten::convolution_backward") == kind_of("aten::mkldnn_convolution") == "convolutions"
    assert kind_of("aten::silu_backward") == kind_of("aten::native_group_norm") == "norms and activations"
    assert kind_of("aten::something") == "everything else"


@pytest.fixture(scope="module")
def source() -> Generator:
    """Return an untrained generator in pixels from -1 to 1, whose output is not zero."""
    config = DiffusionConfig(backbone=BACKBONE, objective=DDPMConfig(), context=8, max_tokens=4)
    model = build_model(config, (3, 8, 8), VALUES, 384)
    nn.init.normal_(model.backbone.conv_out.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(model.conditioner.null_text, generator=torch.Generator().manual_seed(1))
    half = torch.full((3, 1, 1), 0.5)
    codec = PixelCodec((3, 8, 8), half, half, "pixels")
    return Generator(model.eval().requires_grad_(False), codec, DDPM(DDPMConfig()))


def denoiser_of(source: Generator, count: int):
    settings = SamplerConfig(guidance=1.0, clip=1.0)
    return guided_denoiser(source.model, source.objective, nothing(source.model, count), settings)


@pytest.mark.parametrize("level", [0, 400, 999])
def test_the_schedulers_predict_from_the_wrapper_what_our_denoiser_predicts(level, source):
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    ours = denoiser_of(source, 5)(x, level)
    with torch.no_grad():
        output = ddpm(source).unet(x, torch.tensor(level)).sample
    for scheduler in (ddpm(source).scheduler, ddim(source).scheduler):
        scheduler.set_timesteps(1000)
        theirs = scheduler.step(output, level, x).pred_original_sample
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert float(ours.std()) > 0.1


def test_the_wrapper_has_the_face_that_pipelines_look_for(source):
    network = Unconditional(source.model, source.codec.latent)
    assert (network.config.in_channels, network.config.sample_size, network.dtype) == (3, 8, torch.float32)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    number, tensor = network(x, 7).sample, network(x, torch.tensor(7)).sample
    assert torch.equal(number, tensor)
    given = nothing(source.model, 2)
    told = source.model(x, torch.full((2,), 7.0), type(given)(given.tokens, ~given.mask, torch.zeros_like(given.codes)))
    assert not torch.allclose(told, number), "conditions must matter for `nothing` to mean something"


def test_the_stock_ddim_pipeline_ends_where_our_euler_steps_end(source):
    """Same noise, same levels, and the noise of the bounded image: then DDIM is Euler's method, down to data."""
    pipeline = ddim(source)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    noise = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    settings = {"num_inference_steps": 10, "use_clipped_model_output": True, "output_type": "pt"}
    theirs = pipeline(3, generator=torch.Generator().manual_seed(4), **settings).images
    start = noise / float(source.objective.scales(torch.tensor([999.0]))[1])  # the pipeline does not scale it
    ours = source.codec.decode(solve(denoiser_of(source, 3), source.objective, start, 10, "euler"))
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    assert float(theirs.std()) > 0.05


def test_the_stock_pipelines_are_the_stock_ones(source):
    assert isinstance(ddpm(source).scheduler, DDPMScheduler)
    assert ddpm(source).scheduler.config.num_train_timesteps == 1000
    images = ddpm(source)(2, generator=torch.Generator().manual_seed(0), num_inference_steps=3, output_type="np").images
    assert images.shape == (2, 8, 8, 3)
    assert np.isfinite(images).all()


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Return features (300, 5): the real ones."""
    return np.random.default_rng(2).normal(size=(300, 5))


def test_the_difference_sees_who_is_further_away_and_its_interval_holds_equals(drawn):
    """Of one-dimensional Gaussians the distance is (m - m')^2 + (s - s')^2."""
    rng = np.random.default_rng(3)
    near, other = (rng.normal(size=(100, 5)) for _ in range(2))
    value, low, high = how_much_further(2 * near, near, gaussian(drawn), 100, 0)
    assert 0 < low < value < high
    _, low, high = how_much_further(near, other, gaussian(drawn), 100, 0)
    assert low < 0 < high
    mean, std = drawn[:, 0].mean(), drawn[:, 0].std(ddof=1)
    by_hand = [
        (m - mean) ** 2 + (s - std) ** 2 for m, s in ((x.mean(), x.std(ddof=1)) for x in (near[:, 0], other[:, 0]))
    ]
    value, _, _ = how_much_further(near[:, :1], other[:, :1], gaussian(drawn[:, :1]), 10, 0)
    assert value == pytest.approx(by_hand[0] - by_hand[1])


def test_images_that_begin_with_the_same_noise_are_resampled_together(drawn):
    """Then a difference of two nearly equal samplers is known far better than the distance of either."""
    first = np.random.default_rng(4).normal(size=(100, 5))
    second = first + 0.01 * np.random.default_rng(5).normal(size=first.shape)
    _, low, high = how_much_further(first, second, gaussian(drawn), 100, 0)
    _, low_apart, high_apart = how_much_further(first, second[::-1], gaussian(drawn), 100, 0)
    assert high - low < (high_apart - low_apart) / 5


def test_equal_is_the_fewest_steps_from_which_on_nothing_is_worse(drawn):
    """8 steps are worse, 10 are not, 12 are worse again: equality begins at 16."""
    good = np.random.default_rng(6).normal(size=(100, 5))
    features = {label(steps): 2 * good if steps in (8, 12) else good for steps in (8, 10, 12, 16, 20)}
    found = {label(steps): Outcome(np.zeros((100, 1)), [steps / 10] * 3, [1.0] * 3) for steps in (8, 10, 12, 16, 20)}
    found["stock"], features["stock"] = Outcome(np.zeros((100, 1)), [64.0, 32.0, 16.0], [1.0] * 3), good
    result = compared("stock", found, features, gaussian(drawn), Plan(replicates=50))
    assert result["steps"] == 16
    assert result["ratio"] == 20.0
    assert result["ratios of a round"] == [10.0, 40.0]
    worse = {name: 2 * good if name != "stock" else good for name in features}
    assert compared("stock", found, worse, gaussian(drawn), Plan(replicates=50))["steps"] is None


def test_rates_are_medians_of_rounds():
    assert Outcome(np.zeros((30, 1)), [1.0, 2.0, 10.0], [1.0] * 3).rate == 5.0


def test_a_paced_training_takes_one_step_in_a_turn(study, losses):
    """The turn is asked once more than there are steps: after the last one, too."""
    heard = []

    class Counted:
        def begin(self):
            heard.append("begin")

        def end(self, **figures):
            heard.append(figures["loss"])

    train(study, study.material(), range(study.config.steps), Paced(Counted()))
    assert heard[1::2] == losses
    assert heard[0::2] == ["begin"] * (study.config.steps + 1)


def test_a_plan_has_its_rows(tmp_path):
    writer = Writer(tmp_path, "paper")
    records = [
        {
            "id": f"{i}",
            "label": "bar",
            "name": "bar",
            "caption": f"bar {i}",
            "attributes": [("tone", "1")],
            "provenance": "",
        }
        for i in range(20)
    ]
    writer.write("train", np.zeros((20, 8, 8, 3), np.uint8), records)
    writer.finish({"name": "bars", "classes": ["bar"], "image_size": 8, "notes": {}})
    write_plan(tmp_path, tmp_path, 2300)
    plan = pq.read_table(tmp_path / "plan.parquet")
    assert plan.schema.equals(ROW_SCHEMA)
    rows = plan.to_pylist(maps_as_pydicts="strict")
    assert [row["index"] for row in rows] == list(range(2300))
    assert [row["caption"] for row in rows[:21]] == [*(f"bar {i}" for i in range(20)), "bar 0"]
    assert rows[0]["attributes"] == {"tone": "1"}
