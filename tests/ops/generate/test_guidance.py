"""Guidance against its equations, on a network whose output is a sum over the conditions that are given."""

import pytest
import torch
from pydantic import ValidationError

from ops.errors import AmalgamError
from ops.generate.conditioning import Conditions
from ops.generate.guidance import guided_denoiser, rescale, stages
from ops.generate.model_config import FlowConfig
from ops.generate.objectives import objective_of
from ops.generate.sampler_config import SamplerConfig

NAMES, SIZES = ["label", "domain", "tone"], [3, 2, 4]
WORTH = {"caption": 1.0, "label": 10.0, "domain": 100.0, "tone": 1000.0}


class Additive(torch.nn.Module):
    """The output is the sum of what the given conditions are worth; counts its calls."""

    def __init__(self):
        super().__init__()
        self.conditioner = type("C", (), {"names": NAMES, "sizes": SIZES})()
        self.calls = 0

    def forward(self, x, time, conditions):
        self.calls += 1
        given = {name: conditions.codes[:, i] < SIZES[i] for i, name in enumerate(NAMES)}
        given["caption"] = conditions.mask.any(1)
        total = sum(WORTH[name] * present.float() for name, present in given.items())
        return total[:, None].expand_as(x)


def output(**settings):
    """Return what the guided network puts out, from the denoised data: D = x - t v at t = 0.5, and the calls."""
    model, objective = Additive(), objective_of(FlowConfig())
    conditions = Conditions(
        torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.int64)
    )
    x = torch.zeros(2, 4)
    denoised = guided_denoiser(model, objective, conditions, SamplerConfig(**settings))(x, 0.5)
    return float(-denoised[0, 0] / 0.5), model.calls


def test_one_weight_is_plain_classifier_free_guidance():
    assert output(guidance=1.0) == (1111, 1)
    assert output(guidance=3.0) == (3 * 1111, 2)
    assert output(guidance=0.0) == (0, 2)


def test_weights_by_condition_add_up_one_after_the_other():
    value, calls = output(guidance={"label": 2.0, "tone": 3.0})
    assert value == 2 * 10 + 3 * 1000 + 1 * (1 + 100)
    assert calls == 4
    value, calls = output(guidance={"caption": 1.5, "label": 2.0, "domain": 0.5, "tone": 3.0})
    assert value == 1.5 + 20 + 50 + 3000
    assert calls == 5


def test_guidance_acts_in_its_interval_only():
    assert output(guidance=3.0, interval=(0.6, 1.0)) == (1111, 1)
    assert output(guidance=3.0, interval=(0.4, 0.6)) == (3 * 1111, 2)


def test_rescale_gives_back_the_deviation_of_the_conditional_output():
    conditional, guided = torch.randn(5, 3, 8, 8), 4 * torch.randn(5, 3, 8, 8)
    whole = rescale(guided, conditional, 1.0)
    torch.testing.assert_close(whole.std(dim=[1, 2, 3]), conditional.std(dim=[1, 2, 3]))
    torch.testing.assert_close(rescale(guided, conditional, 0.7), 0.7 * whole + 0.3 * guided)
    assert rescale(guided, conditional, 0.0) is guided


def test_clip_bounds_the_denoised_data():
    model, objective = Additive(), objective_of(FlowConfig())
    conditions = Conditions(
        torch.zeros(1, 5, 8), torch.ones(1, 5, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64)
    )
    found = guided_denoiser(model, objective, conditions, SamplerConfig(clip=2.5))(torch.zeros(1, 4), 0.5)
    assert found.tolist() == [[-2.5] * 4]


def test_unknown_conditions_and_impossible_settings_are_refused():
    with pytest.raises(AmalgamError, match="'age'"):
        stages({"age": 2.0}, NAMES)
    for settings, match in (
        ({"interval": (0.7, 0.2)}, "no part"),
        ({"guidance": {"label": -1.0}}, "negative"),
        ({"guidance": {}}, "names nothing"),
    ):
        with pytest.raises(ValidationError, match=match):
            SamplerConfig(**settings)


def test_a_batch_that_is_told_nothing_is_asked_once():
    """Guidance from the null towards the null is the null, at half the cost; one row that is told something costs both."""
    objective, x = objective_of(FlowConfig()), torch.zeros(2, 4)
    null = Conditions(torch.zeros(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool), torch.tensor([SIZES, SIZES]))
    mixed = Conditions(null.tokens, null.mask, torch.tensor([SIZES, [1, *SIZES[1:]]]))
    for conditions, calls, worth in ((null, 1, [0, 0]), (mixed, 2, [0, 30])):
        model = Additive()
        denoised = guided_denoiser(model, objective, conditions, SamplerConfig(guidance=3.0))(x, 0.5)
        assert model.calls == calls
        assert (-denoised[:, 0] / 0.5).tolist() == worth
