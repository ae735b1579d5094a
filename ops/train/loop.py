"""The training loop: one recipe, one seed, one classifier; `ops.train.launch` runs it in several processes."""

from pathlib import Path
from typing import Any

import torch

from ops.data.loading import open_images
from ops.data.marked import refuse_marked
from ops.data.pictures import COLOURS, save_figure
from ops.files import read_json, write_json
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.pace import Pace
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import derive_seed
from ops.summary import Summary
from ops.train.engine import Engine
from ops.train.identify import misclassified
from ops.train.mixing import make_batches
from ops.train.recipe import Recipe
from ops.train.reviews import CLEAN, ROBUST, Best, Reviewer
from ops.train.start import start
from ops.train.workers import Workers

LOG_STEPS = 10


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
    workers: Workers = Workers(),  # noqa: B008 (frozen)
    identifier: Path | None = None,
) -> Summary:
    """Train by `recipe` and write a model folder with the averaged weights, `history.json` and a picture.

    `out` holds the model that `recipe.keep` names, the folders `best` and `last` in it the other one. A resumed run gives
    the files of an undisturbed one, bit for bit on the CPU. `initial` is the model folder that training starts from,
    `identifier` the one whose mistakes are repeated (`sampling.method: errors`); other recipes do not look at it.

    Raises AmalgamError if the loss is not a number, if synthetic images or the identifier are missing, if `initial` has
    another architecture, or if images cannot be grouped as the recipe says.
    """
    for folder in filter(None, (real, synthetic)):
        if (folder / "dataset.json").exists():  # what is missing, and needed, is named below
            refuse_marked(read_json(folder / "dataset.json"))
    images = open_images(real, "train", cache)
    extra = open_images(synthetic, "train", cache) if synthetic is not None and recipe.uses_synthetic else None
    order = derive_seed(seed, name, "order")
    errors = None
    if recipe.sampling.method == "errors" and identifier is not None:
        errors = misclassified(identifier, images, scratch, device, monitor, workers)
    batches = make_batches(recipe, images, extra, order, errors)
    model, card = start(recipe, name, images, initial, seed)
    engine = Engine(recipe, name, model, batches, seed, device, workers)
    checkpoint = Checkpoint(scratch, engine.modules, engine.optimizer, {"scaler": engine.scaler})
    reviewer, best = Reviewer(recipe, real, images, cache, engine.steps), Best(scratch)
    done = checkpoint.restore()
    workers.wait()  # nobody saves before all have read
    pace = Pace(done, engine.steps, recipe.schedule.batch)
    per_epoch = len(images) / recipe.schedule.batch
    for step in range(done, engine.steps):
        loss, figures = engine.step(step)
        where = {"step": step, "epoch": round((step + 1) / per_epoch, 4)}
        if step % LOG_STEPS == 0 or step == engine.steps - 1:
            checkpoint.history.append({**where, "loss": loss, "lr": engine.rate(step)})
            curves = {"loss": loss, "lr": engine.rate(step), **{key: float(v) for key, v in figures.items()}}
            monitor.metrics(step, {key.replace(" ", "_"): v for key, v in (curves | pace.figures(step)).items()})
        if step + 1 in reviewer.at and workers.leads:
            with pace.paused():
                _review(engine, reviewer, best, checkpoint, where, monitor)
        monitor.progress(step + 1, engine.steps, "step", loss=loss, **{"images/s": pace.images_per_second(step)})
        if workers.leads:
            checkpoint.step(step + 1)
    workers.wait()
    if not workers.leads:
        return Summary()
    return _write(engine, card, checkpoint.history, best, out, seed)


def _review(
    engine: Engine, reviewer: Reviewer, best: Best, checkpoint: Checkpoint, where: dict[str, Any], monitor: Monitor
) -> None:
    """Evaluate, record the points of the curves, and keep the averaged model if it is the best so far."""
    points = [{**where, **point} for point in reviewer.review(engine.average, engine.model, engine.device)]
    checkpoint.history += points
    for point in points:
        label = f"{point['split']}_{point['weights']}"
        values = {f"{label}_{key.replace(' ', '_')}": point[key] for key in (CLEAN, ROBUST)}
        monitor.metrics(where["step"], values)
    best.offer(engine.average, evaluations(checkpoint.history))


def evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points of `history` that are evaluations."""
    return [point for point in history if ROBUST in point]


def _write(engine: Engine, card: ModelCard, history: list[dict[str, Any]], best: Best, out: Path, seed: int) -> Summary:
    """Write both model folders, the history and the picture."""
    points = [p for p in evaluations(history) if (p["weights"], p["split"]) == ("averaged", "validation")]
    chosen = {"last": points[-1], "best": max(points, key=lambda point: point[ROBUST])}
    for which, point in chosen.items():
        if which == "best":
            best.load_into(engine.average)
        metrics = {key: float(point[key]) for key in (CLEAN, ROBUST, "epoch")}
        folder = out if which == engine.recipe.keep else out / which
        save_classifier(folder, engine.average, card.model_copy(update={"metrics": metrics}))
    steps = [point for point in history if "loss" in point]
    write_json(out / "history.json", {"steps": steps, "evaluations": evaluations(history)})
    _picture(steps, evaluations(history), out, f"{card.name}, seed {seed}")
    kept = chosen[engine.recipe.keep]
    return Summary(
        {
            f"validation {CLEAN}": kept[CLEAN],
            f"validation {ROBUST}": kept[ROBUST],
            "robust overfitting (best - last)": chosen["best"][ROBUST] - chosen["last"][ROBUST],
            "steps": engine.steps,
            "parameters": sum(p.numel() for p in engine.model.parameters()),
            "threat": str(engine.recipe.threat),
        },
        _group_weights(engine),
    )


def _group_weights(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Return a table of the groups' last weights, for Group DRO."""
    groups = engine.batches.groups
    if engine.weights is None or groups is None:
        return {}
    weights = engine.weights.log_q.exp().tolist()
    rows = zip(groups.names, groups.counts.tolist(), weights, strict=True)
    return {"weights of groups": [{"group": n, "images": c, "weight": round(w, 4)} for n, c, w in rows]}


def _picture(steps: list[dict[str, Any]], points: list[dict[str, Any]], out: Path, title: str) -> None:
    """Save the loss curve with the accuracies on validation images, of averaged and live weights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.8))
    axes = figure.subplots()
    axes.plot([p["epoch"] for p in steps], [p["loss"] for p in steps], color=COLOURS[6], linewidth=1, label="loss")
    axes.set(xlabel="epoch", ylabel="training loss", title=title)
    right = axes.twinx()
    for number, key in enumerate((CLEAN, ROBUST)):
        for weights, style in (("averaged", "o-"), ("live", "x:")):
            mine = [p for p in points if p["weights"] == weights and p["split"] == "validation"]
            if mine:
                label = f"{key.removesuffix(' accuracy')}, {weights}"
                epochs, values = [p["epoch"] for p in mine], [p[key] for p in mine]
                right.plot(epochs, values, style, color=COLOURS[number], markersize=4, label=label)
    right.set(ylim=(0, 1), ylabel="validation accuracy")
    handles = axes.get_lines() + right.get_lines()
    names = [str(line.get_label()) for line in handles]
    # below, where no curve is
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7, frameon=False)
    save_figure(figure, out / "pictures" / "curves.png")
