"""Models that draw random numbers: what attacks find is known in closed form, and is what the reference finds."""

import functools
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ops.attack.apgd import apgd
from ops.attack.attacks import Attack, published
from ops.attack.objectives import evaluate_objective, objective_of
from ops.attack.threat import Threat
from ops.data.loading import ImageSet
from ops.evaluate.honesty import RANDOM
from ops.evaluate.outcomes import attack_images, classify_images
from ops.evaluate.predicting import answers_of, seeded_noise
from ops.evaluate.robustness import accuracy_rows
from tests.ops.attack.test_attacks import LINF, batch, net
from tests.ops.evaluate.test_evaluation import CPU, Linear, config, measure, models  # noqa: F401 (a fixture)
from tests.ops.evaluate.test_honesty import Wrapped

SIGMA = 0.03
RAND = [{"name": "apgd-ce", "steps": 20, "eot": 20}, {"name": "apgd-dlr", "steps": 20, "eot": 20}]
PLAIN = [{"name": "apgd-ce", "steps": 20}, {"name": "apgd-dlr", "steps": 20}]
THREAT = Threat(norm="linf", eps=0.004)


class NoisyInput(Linear):
    """Adds N(0, sigma^2) to every pixel: the score is normal around that of the image, with deviation sigma |w|_2."""

    def forward(self, x):
        return super().forward(x + SIGMA * torch.randn_like(x))


class NoisyWeights(Linear):
    """Adds N(0, 1) to every weight, for each image anew: many entries of a gradient have the wrong sign."""

    def forward(self, x):
        pixels = (x - 0.5).flatten(1)
        score = (pixels * (self.w + torch.randn_like(pixels))).sum(dim=1)
        return torch.stack([-score, score], dim=1)


def drawn(count: int, model: Linear) -> tuple[ImageSet, torch.Tensor]:
    """Return images far from black and white that the model gets right without noise, and their scores (N,)."""
    pixels = np.random.default_rng(0).integers(110, 146, (count, 8, 8, 3), dtype=np.uint8)
    table = pd.DataFrame(
        {"id": [f"i{n}" for n in range(count)], "label": "a", "domain": "d", "attributes": [{}] * count}
    )
    scores = model.score(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).detach()
    return ImageSet(pixels, (scores > 0).long().numpy(), table, ("a", "b")), scores


@functools.cache
def outcomes(kind: str, draws: int = 200, model: type[Linear] = NoisyInput) -> pd.DataFrame:
    settings = config(attacks={"rand": RAND, "plain": PLAIN}[kind], draws=draws, batch=200)
    return attack_images(model(8).eval(), "m/seed-0", drawn(200, model(8))[0], "test", THREAT, settings, CPU)


def margins() -> tuple[torch.Tensor, torch.Tensor]:
    """Return by how many standard deviations an image is right (N,), as it is and at its worst."""
    model = NoisyInput(8)
    scores, w = drawn(200, model)[1].abs(), model.w.detach()
    return tuple((scores - fall) / (SIGMA * w.norm()) for fall in (0, THREAT.eps * w.norm(p=1)))


def test_averaged_gradients_find_the_closed_form():
    """Most answers are right where eps |w|_1 does not turn the score, and one is with probability Phi(margin)."""
    found, (clean, worst) = outcomes("rand"), margins()
    sure = (worst.abs() > 0.25).numpy()
    assert found["clean"][(clean > 0.25).numpy()].all()
    robust = (worst > 0).numpy()
    assert 0.2 < robust.mean() < 0.8
    assert (found["robust"].to_numpy() == robust)[sure].all()
    single = torch.special.ndtr(worst.double()).numpy()
    kept = found["clean"].to_numpy()
    assert abs(found["share_right"] - single)[kept].mean() < 0.03
    assert found["share_right"][kept].mean() == pytest.approx(single[kept].mean(), abs=0.015)


def test_plain_steps_are_weaker():
    """Most answers of noisy weights are right where eps |w|_1 does not turn the score, too; one gradient is no guide there.

    Signs that are wrong leave ground, and one unlucky draw ends the search: robustness that is not there.
    """
    exact = float((margins()[1] > 0).float().mean())
    averaged, plain = (outcomes(kind, model=NoisyWeights) for kind in ("rand", "plain"))
    assert averaged["robust"].mean() == pytest.approx(exact, abs=0.03)
    assert plain["robust"].mean() > exact + 0.15
    assert plain["share_right"].mean() > averaged["share_right"].mean() + 0.05


def test_one_answer_is_no_verdict():
    """With a single draw as in the reference, images that most answers get right are lost to bad luck, and others gain."""
    found, (_, worst) = outcomes("rand", draws=1), margins()
    unlucky = found["clean"].to_numpy() & ~found["robust"].to_numpy() & (worst > 0.25).numpy()
    lucky = found["robust"].to_numpy() & (worst < -0.1).numpy()
    assert unlucky.sum() > 5
    assert lucky.sum() > 1
    assert found["robust"].mean() < outcomes("rand")["robust"].mean() - 0.03, "bad luck has more chances"
    assert set(found["share_right"]) == {0.0, 1.0}


def test_the_gradient_is_the_mean_and_the_rest_is_of_the_last_pass():
    """Against passes made one by one from the same seed."""
    model, x, y = NoisyWeights(8), torch.rand(6, 3, 8, 8), torch.ones(6, dtype=torch.int64)
    with seeded_noise(CPU, 1):
        value, gradient, wrong = evaluate_objective(model, x, y, objective_of("ce", eot=5))
    with seeded_noise(CPU, 1):
        passes = [evaluate_objective(model, x, y, objective_of("ce")) for _ in range(5)]
    torch.testing.assert_close(gradient, torch.stack([g for _, g, _ in passes]).mean(dim=0))
    assert torch.equal(value, passes[-1][0])
    assert torch.equal(wrong, passes[-1][2])
    assert not torch.equal(value, passes[0][0])


def test_the_mean_gradient_points_where_one_does_not():
    """Signs of the mean of n gradients w + e go the share sum |w| erf(|w| sqrt(n / 2)) / |w|_1 of the way."""
    model, x, y = NoisyWeights(8), torch.full((512, 3, 8, 8), 0.55), torch.ones(512, dtype=torch.int64)
    w = model.w.detach()
    for eot in (1, 20):
        with seeded_noise(CPU, 0):
            _, gradient, _ = evaluate_objective(model, x, y, objective_of("margin", eot=eot))
        share = -(gradient.sign().flatten(1) @ w).mean() / w.norm(p=1)
        expected = (w.abs() * torch.erf(w.abs() * (eot / 2) ** 0.5)).sum() / w.norm(p=1)
        assert float(share) == pytest.approx(float(expected), abs=0.01)


def test_rand_is_as_strong_as_the_reference():
    """Both attacks of `rand` on a noisy network, 20 passes a gradient: the same share of answers is turned."""
    from pyautoattack.autopgd_base import APGDAttack

    model = Wrapped(before=lambda x: x + 0.05 * torch.randn_like(x))
    x, y = batch()
    for loss in ("ce", "dlr"):
        logger = logging.getLogger("auto-attack")
        options = {"n_restarts": 1, "n_iter": 15, "eps": LINF.eps, "norm": "Linf", "eot_iter": 20, "logger": logger}
        share = {}
        with seeded_noise(CPU, loss):
            reference = APGDAttack(model, loss=loss, seed=0, device="cpu", **options)
            theirs = reference.perturb(x, y)
            ours = apgd(model, x, y, LINF, steps=15, loss=loss, example_seeds=torch.arange(64), eot=20)
            for name, found in (("clean", x), ("theirs", theirs), ("ours", ours)):
                share[name] = answers_of(model, found, name, 100).share_right(y.numpy())
        assert 0.05 < share["theirs"].mean() < share["clean"].mean() - 0.2
        assert share["ours"].mean() == pytest.approx(share["theirs"].mean(), abs=0.03)
        outcome = {name: each > 0.5 for name, each in share.items()}
        assert (outcome["ours"] != outcome["theirs"]).sum() <= 3


def test_without_randomness_averaging_changes_nothing_but_the_image():
    """All passes are the same: the same examples fall, where the search goes on to the last misclassified iterate."""
    model, (x, y) = net(), batch()
    found = [apgd(model, x, y, LINF, steps=15, example_seeds=torch.arange(64), eot=eot) for eot in (1, 3)]
    fell = [model(each).argmax(1) != y for each in found]
    assert torch.equal(*fell)
    assert 0 < fell[0].sum() < 64
    loss = [nn.functional.cross_entropy(model(each), y) for each in found]
    assert loss[1] > loss[0]


def test_equal_seeds_give_equal_outcomes_and_leave_the_generator_alone():
    """What the model draws follows from the seed of the evaluation and the batch, not from what was drawn before."""
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    model = NoisyInput(8).eval()
    images = drawn(40, model)[0]
    found = []
    for seed in (0, 0, 1):
        settings = config(attacks=RAND, draws=3, batch=16, seed=seed)
        found.append(attack_images(model, "m/seed-0", images, "test", THREAT, settings, CPU))
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.rand(3)
        before = torch.random.get_rng_state()
    pd.testing.assert_frame_equal(found[0], found[1])
    assert not found[0].equals(found[2])


def test_a_killed_attack_on_a_random_model_ends_with_the_same_outcomes(tmp_path, monkeypatch):
    from ops.evaluate import outcomes as module

    model = NoisyInput(8).eval()
    images, settings = drawn(40, model)[0], config(attacks=RAND, draws=3, batch=8)
    run = functools.partial(attack_images, model, "m/seed-0", images, "test", THREAT, settings, CPU)
    whole, calls, original = run(), [], module.run_attack

    def dies(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, "run_attack", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "ledger.json")
    pd.testing.assert_frame_equal(run(tmp_path / "ledger.json"), whole)


def test_rows_have_the_accuracy_of_a_single_draw():
    settings = config(attacks=RAND, draws=50, threats=[THREAT])
    model = NoisyInput(8).eval()
    images = drawn(60, model)[0]
    parts = [
        classify_images(model, "m/seed-0", images, "test", settings, CPU)[0],
        attack_images(model, "m/seed-0", images, "test", THREAT, settings, CPU),
    ]
    rows = pd.DataFrame(accuracy_rows(pd.concat(parts), settings, "d")).set_index("metric")
    for metric, part in zip(("clean accuracy", "robust accuracy"), parts, strict=True):
        line = rows.loc[f"{metric} of a single draw" + (f" ({THREAT})" if metric.startswith("robust") else "")]
        assert line["value"] == pytest.approx(part["share_right"].mean())
        assert line["low"] < line["value"] < line["high"]
    assert parts[0]["confidence"].between(0.5, 1).mean() > 0.9


def test_the_published_list_and_its_settings():
    rand = config(attacks="rand")
    assert [(a.name, a.steps, a.eot, a.restarts) for a in rand.attacks_in("l2")] == [
        ("apgd-ce", 100, 20, 1),
        ("apgd-dlr", 100, 20, 1),
    ]
    assert (rand.passes(), config(attacks="standard").passes(), config(attacks="rand", draws=1).passes()) == (20, 1, 1)
    assert all(a.eot == 1 for kind in ("standard", "plus") for a in published(kind, "linf"))
    for wrong in ({"name": "square", "eot": 20}, {"name": "pgd", "eot": 2}):
        with pytest.raises(ValueError, match="averages no gradients"):
            Attack(**wrong)


def test_a_random_model_is_pointed_to_rand_unless_rand_is_what_it_meets(models, shards, folders, recorder, monkeypatch):  # noqa: F811
    from ops.evaluate import probing
    from ops.files import read_json

    load = probing.load_classifier
    noise = nn.Dropout(0.3)
    noise.train()

    def noisy(folder, device):
        model, card = load(folder, device)
        return nn.Sequential(noise, model), card

    monkeypatch.setattr(probing, "load_classifier", noisy)
    one = dict(list(models.items())[:1])
    attacks = [{"name": "apgd-ce", "steps": 2, "eot": 2}]
    found = {
        tag: read_json(measure(one, shards, folders, recorder, tag=tag, attacks=chosen) / "honesty.json")["warnings"]
        for tag, chosen in (("plain", [{"name": "apgd-ce", "steps": 2}]), ("rand", attacks))
    }
    assert any(RANDOM in text and "attacks: rand" in text for text in found["plain"])
    assert not any(RANDOM in text for text in found["rand"])
