"""Each conditioning has its own null, dropped at its own rate, and the model listens to each."""

import pandas as pd
import pytest
import torch

from ops.errors import AmalgamError
from ops.generate.conditioning import Conditioner, Conditions, drop, vocabularies_of
from ops.generate.diffusion import build_model
from ops.generate.model_config import DiffusionConfig, DiTConfig, UNetConfig
from ops.generate.text import WIDTH, encode_captions, model_folder

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


BACKBONES = [UNetConfig(channels=[16, 32], head_width=8), DiTConfig(patch=2, depth=2, heads=2, width=16)]


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda config: config.kind)
@pytest.mark.parametrize("part", ["caption", "label", "tone"])
def test_the_model_listens_to_each_conditioning(part, backbone):
    """Once trained: at the start outputs are zero, and so is what the transformer's blocks add."""
    config = DiffusionConfig(backbone=backbone, context=16, max_tokens=5)
    model = build_model(config, (4, 8, 8), dict(zip(NAMES, VALUES, strict=True)), WIDTH)
    rng = torch.Generator().manual_seed(3)
    x, t = torch.randn(2, 4, 8, 8, generator=rng), torch.full((2,), 500.0)
    a = conditions(2)
    with torch.no_grad():
        assert not model(x, t, a).any()
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3, generator=rng)
    codes, tokens = a.codes.clone(), a.tokens.clone()
    if part == "caption":
        tokens = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(9)).half()
    else:
        column = NAMES.index(part)
        codes[:, column] = (codes[:, column] + 1) % SIZES[column]
    with torch.no_grad():
        changed = model(x, t, Conditions(tokens, a.mask, codes)) - model(x, t, a)
        hidden = model(x, t, Conditions(tokens, a.mask, codes).null(SIZES)) - model(x, t, a.null(SIZES))
    assert changed.abs().max() > 1e-5, "and rounding is the same on both sides"
    assert not hidden.any(), "the null is one null for all"


def test_blocks_of_the_transformer_start_as_the_identity():
    """What enters the first block leaves the last one unchanged (adaLN-Zero)."""
    config = DiffusionConfig(backbone=BACKBONES[1], context=16, max_tokens=5)
    model = build_model(config, (4, 8, 8), dict(zip(NAMES, VALUES, strict=True)), WIDTH)
    seen = []
    blocks = model.backbone.transformer_blocks
    blocks[0].register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True)
    blocks[-1].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        model(torch.randn(2, 4, 8, 8), torch.tensor([10.0, 900.0]), conditions(2))
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("backbone", "match"),
    [
        (UNetConfig(channels=[16, 32, 32, 32], head_width=8), "levels"),
        (DiTConfig(patch=3, width=16, heads=2), "patches"),
    ],
)
def test_networks_that_do_not_fit_the_latents_are_refused(backbone, match):
    config = DiffusionConfig(backbone=backbone, context=16, max_tokens=5)
    side = 4 if backbone.kind == "unet" else 8
    with pytest.raises(AmalgamError, match=match):
        build_model(config, (4, side, side), dict(zip(NAMES, VALUES, strict=True)), WIDTH)


def test_unknown_values_are_named():
    conditioner = Conditioner(NAMES, VALUES, 16, 24, 5)
    row = {"label": "disc", "domain": "paper", "attributes": {"tone": "2"}}
    assert conditioner.encode([row]).tolist() == [[1, 0, 2]]
    assert conditioner.encode([{"label": None, "domain": "paper", "attributes": {"tone": None}}]).tolist() == [
        [2, 0, 3]
    ]
    with pytest.raises(AmalgamError, match="tone '9'"):
        conditioner.encode([{**row, "attributes": {"tone": "9"}}])
    with pytest.raises(AmalgamError, match="no tone"):
        conditioner.encode([{**row, "attributes": {}}])


def test_a_class_without_images_is_refused():
    table = pd.DataFrame({"label": ["bar", "bar"], "domain": ["paper", "paper"]})
    with pytest.raises(AmalgamError, match="disc"):
        vocabularies_of(table, {"classes": ["bar", "disc"], "attributes": {}})


def test_captions_that_are_long_empty_or_foreign_are_counted(tmp_path, recorder):
    """A long one is cut, an empty one is the null, and one that the encoder cannot read counts as unknown."""
    texts = ["a man " * 20, "", "\U0001f9d1 a man", "a man"]
    found = encode_captions(texts, 8, tmp_path, torch.device("cpu"), recorder)
    assert (found.cut, found.unknown) == (1, 1)
    rows = found.rows(texts)
    assert found.mask[rows].sum(1).tolist()[:2] == [8, 0]
    assert not found.tokens[rows[1]].any()
    with pytest.raises(AmalgamError, match="knows no word"):
        encode_captions(["\U0001f9d1", "\U0001f9d2", "a man"], 8, tmp_path, torch.device("cpu"), recorder)


def test_an_encoder_from_a_folder_reads_captions(tmp_path, recorder):
    """Any transformers encoder in safetensors: here a BERT of width 32 with MiniLM's words, and a folder of none."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    cache = tmp_path / "cache"
    found = encode_captions(["a man"], 8, cache, torch.device("cpu"), recorder, str(tmp_path / "bert"))
    assert found.width == 32
    with pytest.raises(AmalgamError, match="no text encoder"):
        encode_captions(["a man"], 8, cache, torch.device("cpu"), recorder, str(cache))


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
