"""Each conditioning has its own null, dropped at its own rate, and the model listens to each."""

import pytest
import torch

from ops.errors import AmalgamError
from ops.generate.conditioning import Conditioner, Conditions, drop
from ops.generate.config import DiffusionConfig
from ops.generate.diffusion import build_model
from ops.generate.text import WIDTH, encode_captions

NAMES = ["label", "domain", "tone"]
VALUES = [["bar", "disc"], ["paper"], ["0", "1", "2"]]
SIZES = [2, 1, 3]


def conditions(count: int) -> Conditions:
    rng = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(0, n, (count,), generator=rng) for n in SIZES], dim=1)
    return Conditions(torch.randn(count, 5, WIDTH, generator=rng).half(), torch.ones(count, 5, dtype=torch.bool), codes)


def test_drop_rates_are_independent_and_include_the_joint_null():
    """P(part dropped) = q + (1 - q) p; P(all dropped) = q + (1 - q) p^4; parts are independent given no joint drop."""
    p, q, count = 0.2, 0.1, 200_000
    random = torch.rand(count, 5, generator=torch.Generator().manual_seed(1))
    given = conditions(count)
    found = drop(given, SIZES, p, q, random)
    gone = torch.stack([~found.mask.any(1), *(found.codes[:, k] == n for k, n in enumerate(SIZES))], dim=1)
    for k in range(4):
        assert float(gone[:, k].float().mean()) == pytest.approx(q + (1 - q) * p, abs=0.005)
    assert float(gone.all(dim=1).float().mean()) == pytest.approx(q + (1 - q) * p**4, abs=0.003)
    assert float((gone[:, 0] & gone[:, 1]).float().mean()) == pytest.approx(q + (1 - q) * p**2, abs=0.005)
    kept = ~gone[:, 1]
    assert torch.equal(found.codes[kept, 0], given.codes[kept, 0])


def test_nothing_is_dropped_at_rate_zero():
    given = conditions(50)
    found = drop(given, SIZES, 0.0, 0.0, torch.rand(50, 5))
    assert torch.equal(found.codes, given.codes)
    assert found.mask.all()


def test_null_hides_everything():
    """Two different batches look the same to the model once everything is dropped."""
    conditioner = Conditioner(NAMES, VALUES, 16, 24, 5)
    a, b = conditions(6), conditions(12)
    tokens_a, vector_a = conditioner(a.null(SIZES))
    b = Conditions(b.tokens[6:], b.mask[6:], b.codes[6:])
    tokens_b, vector_b = conditioner(b.null(SIZES))
    assert torch.equal(tokens_a, tokens_b)
    assert torch.equal(vector_a, vector_b)


@pytest.mark.parametrize("part", ["caption", "label", "tone"])
def test_the_model_listens_to_each_conditioning(part):
    config = DiffusionConfig(channels=[16, 32], context=16, max_tokens=5)
    model = build_model(config, 4, 8, dict(zip(NAMES, VALUES, strict=True)))
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    a = conditions(2)
    codes, tokens = a.codes.clone(), a.tokens.clone()
    if part == "caption":
        tokens = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(9)).half()
    else:
        column = NAMES.index(part)
        codes[:, column] = (codes[:, column] + 1) % SIZES[column]
    x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 0.5)
    with torch.no_grad():
        changed = model(x, t, Conditions(tokens, a.mask, codes)) - model(x, t, a)
    assert changed.abs().max() > 1e-4


def test_unknown_values_are_named():
    conditioner = Conditioner(NAMES, VALUES, 16, 24, 5)
    row = {"label": "disc", "domain": "paper", "attributes": {"tone": "2"}}
    assert conditioner.encode([row]).tolist() == [[1, 0, 2]]
    with pytest.raises(AmalgamError, match="tone '9'"):
        conditioner.encode([{**row, "attributes": {"tone": "9"}}])


def test_captions_are_encoded_by_meaning_and_kept(tmp_path, recorder):
    texts = ["a man with a beard", "a bearded man", "a bowl of soup"]
    first = encode_captions(texts, 12, tmp_path, torch.device("cpu"), recorder)
    assert first.tokens.shape == (3, 12, WIDTH)
    pooled = torch.stack([first.tokens[i][first.mask[i]].float().mean(0) for i in first.rows(texts).tolist()])
    similarity = torch.nn.functional.cosine_similarity(pooled[:, None], pooled[None], dim=-1)
    assert similarity[0, 1] > 0.7 > similarity[0, 2] + 0.2
    again = encode_captions([*texts, texts[0]], 12, tmp_path, torch.device("cpu"), recorder)
    assert torch.equal(again.tokens, first.tokens)
    assert len(list((tmp_path / "text").iterdir())) == 1
