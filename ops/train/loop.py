"""The training loop: one recipe, one seed, one classifier."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ops.attack.pgd import pgd
from ops.data.loading import ImageSet, open_images
from ops.data.pictures import COLOURS, save_figure
from ops.errors import AmalgamError
from ops.files import write_json
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, load_weights, place, save_classifier, weights_digest
from ops.models.resnet import ResNet, build_classifier
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import derive_seed, generator
from ops.summary import Summary
from ops.train.augmentation import augment
from ops.train.averaging import update_average
from ops.train.batchnorm import frozen_statistics, ramp_statistics
from ops.train.inner import inner_attack
from ops.train.losses import soft_cross_entropy, trades
from ops.train.mixing import Batches
from ops.train.recipe import Recipe
from ops.train.schedule import autocast, warmup_cosine


def train_classifier(
    recipe: Recipe,
    name: str,
    real: Path,
    synthetic: Path | None,
    initial: Path | None,
    seed: int,
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Train by `recipe` and write a model folder with the averaged weights, `history.json` and a picture.

    A resumed run gives the weights of an undisturbed one, bit for bit. Raises AmalgamError if the loss is not a number,
    if synthetic images are missing, or if `initial` has another architecture.
    """
    images = open_images(real, "train", cache)
    extra = open_images(synthetic, "train", cache) if synthetic is not None else None
    batches = Batches(images, extra, recipe.mix, recipe.schedule.batch, derive_seed(seed, name, "order"))
    model, ancestor, card = _start(recipe, name, images, initial, seed)
    model = place(model, device)
    average = place(_start(recipe, name, images, initial, seed)[0], device)
    average.requires_grad_(False)
    optimizer = _optimizer(model, recipe)
    checkpoint = Checkpoint(scratch, {"model": model, "average": average}, optimizer)
    validation = _subset(open_images(real, "validation", cache), recipe.evaluation_images)
    steps = step_count(recipe, len(images))
    reviews = {round((i + 1) * steps / recipe.evaluations) for i in range(recipe.evaluations)}
    for step in range(checkpoint.restore(), steps):
        rng = generator(seed, name, "step", step)
        x, targets, _ = batches.at(step)
        x = augment(x, recipe.augmentation, rng).to(device, memory_format=torch.channels_last)
        rate = recipe.schedule.lr * warmup_cosine(step, steps, recipe.schedule.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ramp_statistics(model, step)
        loss = _loss(model, x, targets.to(device), recipe, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        update_average(average, model, recipe.ema, step)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise AmalgamError(
                f"the loss of recipe {name} is {value} at step {step}",
                f"lower its schedule.lr ({recipe.schedule.lr:g})",
            )
        if step % 10 == 0 or step == steps - 1:
            checkpoint.history.append({"step": step, "loss": value})
            monitor.metrics(step, {"loss": value, "lr": rate})
        if step + 1 in reviews:
            point = evaluate(average, validation, recipe, device)
            checkpoint.history.append({"step": step, **point})
            monitor.metrics(step, {key.replace(" ", "_"): v for key, v in point.items()})
        monitor.progress(step + 1, steps, "step", loss=value)
        checkpoint.step(step + 1)
    evaluations = [point for point in checkpoint.history if "robust accuracy" in point]
    final = {key: value for key, value in evaluations[-1].items() if key != "step"}
    card = card.model_copy(update={"ancestor": ancestor, "metrics": final})
    save_classifier(out, average, card)
    write_json(out / "history.json", checkpoint.history)
    _picture(checkpoint.history, out, f"{name}, seed {seed}")
    parameters = sum(p.numel() for p in model.parameters())
    figures = {f"validation {key}": value for key, value in final.items()}
    return Summary({**figures, "steps": steps, "parameters": parameters, "threat": str(recipe.threat)})


def step_count(recipe: Recipe, real_images: int) -> int:
    """Return the number of steps: epochs are counted in real images, whatever share of a batch they are.

    This is the papers' convention: extra data change what is seen, not for how long.
    """
    return max(1, int(recipe.schedule.epochs * real_images / recipe.schedule.batch))


def _start(
    recipe: Recipe, name: str, images: ImageSet, initial: Path | None, seed: int
) -> tuple[ResNet, str, ModelCard]:
    """Return the network that training starts from, the hash of its weights (for soups), and its card."""
    mean, std = channel_statistics(images)
    card = ModelCard(
        name=name,
        architecture=recipe.architecture,
        classes=list(images.classes),
        image_size=images.images.shape[1],
        mean=mean,
        std=std,
        seed=seed,
        ancestor="",
        recipe=recipe.model_dump(mode="json"),
    )
    if initial is None:
        model = build_classifier(recipe.architecture, len(images.classes), mean, std, derive_seed(seed, name))
        return model, weights_digest(model), card
    before, theirs = load_classifier(initial, torch.device("cpu"))
    model = build_classifier(recipe.architecture, len(images.classes), theirs.mean, theirs.std)
    load_weights(model, before.state_dict(), theirs.name)
    return model, theirs.ancestor, card.model_copy(update={"mean": theirs.mean, "std": theirs.std})


def channel_statistics(images: ImageSet, limit: int = 2000) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over at most `limit` evenly spaced images."""
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64)
    pixels = images.images[chosen].astype(np.float64).reshape(-1, 3) / 255
    return [round(float(v), 4) for v in pixels.mean(axis=0)], [round(float(v), 4) for v in pixels.std(axis=0)]


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Return Nesterov SGD with weight decay on weights of convolutions and linear layers and on linear biases."""
    plain = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    skipped = {id(p) for p in plain}
    decayed = [p for p in model.parameters() if id(p) not in skipped]
    schedule = recipe.schedule
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum, nesterov=schedule.momentum > 0)


def _loss(
    model: nn.Module, x: torch.Tensor, targets: torch.Tensor, recipe: Recipe, rng: torch.Generator
) -> torch.Tensor:
    """Return the recipe's loss on one batch; only the adversarial (or only) pass updates BatchNorm statistics."""
    model.train()
    with autocast(x.device, recipe.bf16):
        if recipe.loss == "clean":
            return soft_cross_entropy(model(x).float(), targets).mean()
        if recipe.loss == "pgd_at":
            adversarial = inner_attack(model, x, targets, recipe.threat, recipe.attack, rng)
            return soft_cross_entropy(model(adversarial).float(), targets).mean()
        with frozen_statistics(model):
            clean = model(x).float()  # also the attack's target: the weights do not change in between
        adversarial = inner_attack(model, x, clean.detach().softmax(dim=1), recipe.threat, recipe.attack, rng)
        return trades(clean, model(adversarial).float(), targets, recipe.beta)


def _subset(images: ImageSet, limit: int) -> ImageSet:
    """Return at most `limit` evenly spaced images."""
    return images.subset(np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64))


def evaluate(
    model: nn.Module, images: ImageSet, recipe: Recipe, device: torch.device, steps: int = 10
) -> dict[str, float]:
    """Return clean accuracy and accuracy under PGD with `steps` steps, of a model in evaluation mode."""
    model.eval()
    clean, robust = 0, 0
    for start in range(0, len(images), 128):
        chosen = np.arange(start, min(start + 128, len(images)))
        x = images.batch(chosen).to(device, memory_format=torch.channels_last)
        y = images.targets(chosen).to(device)
        with torch.no_grad():
            right = model(x).argmax(dim=1) == y
        clean += int(right.sum())
        attacked = pgd(model, x, y, recipe.threat, steps=steps, example_seeds=torch.from_numpy(chosen))
        with torch.no_grad():
            robust += int((right & (model(attacked).argmax(dim=1) == y)).sum())
    return {"clean accuracy": clean / len(images), "robust accuracy": robust / len(images)}


def _picture(history: list[dict[str, float]], out: Path, title: str) -> None:
    """Save the loss curve with the validation accuracies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6))
    axes = figure.subplots()
    losses = [(p["step"], p["loss"]) for p in history if "loss" in p]
    axes.plot(*zip(*losses, strict=True), color=COLOURS[6], linewidth=1, label="training loss")
    axes.set(xlabel="step", ylabel="loss", title=title)
    right = axes.twinx()
    for number, key in enumerate(("clean accuracy", "robust accuracy")):
        points = [(p["step"], p[key]) for p in history if key in p]
        right.plot(*zip(*points, strict=True), color=COLOURS[number], marker="o", label=f"validation {key}")
    right.set(ylim=(0, 1), ylabel="accuracy")
    handles = axes.get_lines() + right.get_lines()
    axes.legend(handles, [str(line.get_label()) for line in handles], fontsize=7, frameon=False)
    save_figure(figure, out / "pictures" / "curves.png")
