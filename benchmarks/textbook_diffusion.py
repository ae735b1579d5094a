"""Latent diffusion training as diffusers' example scripts write it (`train_text_to_image.py`): float32, NCHW.

In every step images go through the frozen autoencoder and captions through the frozen text encoder. The objective is that
of the scripts for rectified flow, the optimizer torch's AdamW as it comes, the average diffusers' `EMAModel`. Two things
are not the scripts': latents are the posterior's mean, not a draw, and conditions are dropped by our random numbers, so
that losses can be compared; images and word pieces are in memory, and no step waits for a data loader.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel

from ops.data.loading import ImageSet
from ops.generate.backbones import LatentModel
from ops.generate.codec import KLCodec
from ops.generate.conditioning import Conditions, drop
from ops.generate.diffusion import Material
from ops.generate.model_config import DiffusionConfig
from ops.generate.objectives import objective_of
from ops.generate.text import model_folder
from ops.generate.training import draw_batch
from ops.runtime import generator
from ops.train.schedule import warmup_cosine

Prepare = Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""From a batch's indices to its latents (B, C, h, w), caption tokens (B, T, W) and their mask (B, T)."""


def encoding(images: ImageSet, codec: KLCodec, max_tokens: int) -> Prepare:
    """Return what the scripts do in every step: encode the batch's images and captions."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    captions = images.table["caption"].tolist()
    words = tokenizer(captions, padding="max_length", truncation=True, max_length=max_tokens, return_tensors="pt")
    vae = codec.model

    @torch.no_grad()
    def prepare(chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        latents = vae.encode(images.batch(chosen) * 2 - 1).latent_dist.mean * vae.config.scaling_factor
        pieces, mask = words["input_ids"][chosen], words["attention_mask"][chosen]
        return latents, encoder(pieces, attention_mask=mask).last_hidden_state, mask.bool()

    return prepare


def keeping(material: Material) -> Prepare:
    """Return what a careful user does: look up what was encoded before."""

    def prepare(chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = material.captions[chosen]
        return material.latents[chosen], material.text.tokens[rows].float(), material.text.mask[rows]

    return prepare


def textbook(
    config: DiffusionConfig, model: LatentModel, codes: torch.Tensor, weights: np.ndarray, prepare: Prepare
) -> Callable[[int], float]:
    """Return the step of the scripts, on a copy of `model`: from its number to its loss.

    `codes` (N, F) int64 and `weights` (N,) are those of the images. Numbers must be asked for in order, from 0.
    """
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    average = EMAModel(model.parameters(), decay=config.ema)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, config.steps))
    objective = objective_of(config.objective)

    def step(number: int) -> float:
        chosen = draw_batch(weights, config.batch, config.seed, "diffusion", number)
        latents, tokens, mask = prepare(chosen)
        rng = generator(config.seed, "diffusion noise", number)
        noise = torch.randn(latents.shape, generator=rng)
        times = objective.draw(len(latents), rng)
        random = torch.rand(len(latents), codes.shape[1] + 2, generator=rng)
        conditions = Conditions(tokens, mask, codes[chosen])
        conditions = drop(conditions, model.conditioner.sizes, config.drop, config.drop_all, random)
        sigmas = times.view(-1, 1, 1, 1)
        noisy = (1.0 - sigmas) * latents + sigmas * noise
        prediction = model(noisy, times * 1000, conditions)
        loss = F.mse_loss(prediction.float(), (noise - latents).float(), reduction="mean")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.step(model.parameters())
        return loss.detach().item()

    return step
