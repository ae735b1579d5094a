"""The vision transformer against softmax attention by hand, torch's own encoder layer and its published size."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ops.errors import AmalgamError
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.models.vit import Attention, Block

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SMALL = Architecture(family="vit", image_size=16, patch=4, dim=16, heads=2, layers=2)


def test_attention_is_a_softmax_over_tokens():
    dim, heads = 12, 3
    layer, x = Attention(dim, heads), torch.randn(2, 5, dim)
    for bias in (layer.qkv.bias, layer.out.bias):
        torch.nn.init.normal_(bias)
    state = {k: v.double().numpy() for k, v in layer.state_dict().items()}
    tokens, size = x.double().numpy(), dim // heads
    q, k, v = np.split(tokens @ state["qkv.weight"].T + state["qkv.bias"], 3, axis=2)
    mixed = np.empty_like(tokens)
    for image in range(2):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            weights = softmax(q[image, :, part] @ k[image, :, part].T / math.sqrt(size), axis=1)
            mixed[image, :, part] = weights @ v[image, :, part]
    expected = mixed @ state["out.weight"].T + state["out.bias"]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_block_is_torchs_pre_norm_encoder_layer():
    dim, heads, hidden = 12, 3, 20
    block = Block(dim, heads, hidden)
    for each in block.parameters():
        torch.nn.init.normal_(each, std=0.5)
    theirs = torch.nn.TransformerEncoderLayer(
        dim, heads, hidden, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out.",
        "linear1.": "rise.", "linear2.": "fall.", "norm1.": "norm1.", "norm2.": "norm2.",
    }  # fmt: skip
    mine = block.state_dict()
    theirs.load_state_dict({t + kind: mine[m + kind] for t, m in names.items() for kind in ("weight", "bias")})
    x = torch.randn(2, 7, dim)
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_size_of_vit_b_16():
    """86,567,656 is the published count; the class token's own position is left out here."""
    with torch.device("meta"):
        architecture = Architecture(family="vit", image_size=224, patch=16, dim=768, layers=12, heads=12)
        model = build_classifier(architecture, 1000, MEAN, STD)
    assert sum(p.numel() for p in model.parameters()) == 86_567_656 - 768


def test_patches_are_read_row_by_row(build):
    model, x = build(SMALL).eval(), torch.rand(2, 3, 16, 16)
    tokens = model.embed_patches(x)
    assert tokens.shape == (2, 16, 16)
    normalised = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    patch = normalised[1, :, 4:8, 8:12].flatten()  # second row, third column
    expected = model.embed.weight.flatten(1) @ patch + model.embed.bias + model.positions[0, 1 * 4 + 2]
    torch.testing.assert_close(tokens[1, 6], expected, rtol=1e-4, atol=1e-5)


def test_another_class_token_gives_other_features(build):
    model, x = build(SMALL).eval(), torch.rand(3, 3, 16, 16)
    assert dict(model.named_parameters())["class_token"].shape == (1, 1, 16)
    own = model.features(x)
    torch.testing.assert_close(model.features(x, model.class_token), own)
    a, b = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert not torch.allclose(model.features(x, a), own, atol=1e-2)
    each = model.features(x, torch.cat([a, b, model.class_token]))
    expected = torch.cat([model.features(x[:1], a), model.features(x[1:2], b), own[2:]])
    torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


def test_only_positions_tell_patches_apart(build):
    model, x = build(SMALL).eval(), torch.rand(2, 3, 16, 16)
    swapped = torch.cat([x[..., 8:], x[..., :8]], dim=3)
    assert not torch.allclose(model.features(swapped), model.features(x), atol=1e-3)
    torch.nn.init.zeros_(model.positions)
    torch.testing.assert_close(model.features(swapped), model.features(x), rtol=1e-4, atol=1e-4)


def test_positions_of_other_sizes_are_interpolated(build):
    """A plane stays the plane, and goes on flat beyond the outermost centres of patches."""
    model = build(Architecture(family="vit", image_size=64, patch=4, dim=16, heads=2, layers=1)).eval()
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    with torch.no_grad():
        model.positions.copy_((2 * rows + 5 * columns).flatten().view(1, -1, 1).expand(1, 256, 16))
        model.embed.weight.zero_()
        model.embed.bias.zero_()
    tokens = model.embed_patches(torch.rand(1, 3, 128, 96))[0, :, 0].view(32, 24)
    down, across = ((torch.arange(count) + 0.5) * 16 / count - 0.5 for count in (32, 24))
    expected = 2 * down.clamp(0, 15).view(-1, 1) + 5 * across.clamp(0, 15)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def test_patches_must_divide_the_images(build):
    model = build(SMALL)
    with pytest.raises(AmalgamError, match=r"patches of 4 x 4 pixels do not divide images of 16 x 18"):
        model(torch.rand(1, 3, 16, 18))
