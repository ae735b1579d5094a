"""Do the arms of a comparison take as many optimizer steps? A method that trains longer wins for that alone.

An arm's steps are those of every training that its model needs: its own, that of the model it starts from, that of the
model whose mistakes it repeats, and theirs in turn, each counted once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from ops.errors import AmalgamError
from ops.train.recipe import Recipe, step_count


def lineage_of(recipes: Mapping[str, Recipe], name: str) -> list[str]:
    """Return the recipes that must be trained for `name`, each once and before those that need it; itself is last.

    Raises AmalgamError if one is not in `recipes`, or if recipes need each other in a circle.
    """
    found: list[str] = []

    def visit(wanted: str, line: list[str]) -> None:
        if wanted in line:
            circle = " <- ".join([*line[line.index(wanted) :], wanted])
            raise AmalgamError(
                f"recipes need each other in a circle: {circle}", "set initialisation of one of them to scratch"
            )
        if wanted not in recipes:
            by = f"recipe {line[-1]} needs {wanted!r}, which" if line else f"{wanted!r}"
            raise AmalgamError(f"{by} is no recipe", f"use one of: {', '.join(recipes)}")
        if wanted not in found:
            for parent in recipes[wanted].needs:
                visit(parent, [*line, wanted])
            found.append(wanted)

    visit(name, [])
    return found


def arms_of(recipes: Mapping[str, Recipe]) -> list[str]:
    """Return the recipes that no other one needs: those that are compared."""
    needed = {parent for recipe in recipes.values() for parent in recipe.needs}
    return [name for name in recipes if name not in needed]


def total_steps(recipes: Mapping[str, Recipe], name: str, real_images: int) -> int:
    """Return the optimizer steps of all trainings that the arm `name` needs, with `real_images` training images."""
    return sum(step_count(recipes[each], real_images) for each in lineage_of(recipes, name))


def require_equal_steps(recipes: Mapping[str, Recipe], real_images: int, arms: Sequence[str] | None = None) -> int:
    """Return the optimizer steps that every arm takes; the arms are, by default, the recipes that no other one needs.

    Raises AmalgamError that names the arms with another number of steps than most, or with batches of another size.
    """
    names = list(arms) if arms is not None else arms_of(recipes)
    lines = {name: lineage_of(recipes, name) for name in names}
    if not names:
        raise AmalgamError("there are no arms to compare", "name some recipes")
    sizes = Counter(recipes[each].schedule.batch for line in lines.values() for each in line)
    batch = sizes.most_common(1)[0][0]
    for name, line in lines.items():
        for each in line:
            if recipes[each].schedule.batch != batch:
                raise AmalgamError(
                    f"arm {name}: {each} has batches of {recipes[each].schedule.batch}, the others of {batch}",
                    f"set its schedule.batch to {batch}",
                )
    totals = {name: total_steps(recipes, name, real_images) for name in names}
    most = Counter(totals.values()).most_common(1)[0][0]
    other = [name for name, total in totals.items() if total != most]
    if other:
        told = [f"{name} takes {totals[name]} ({_parts(recipes, lines[name], real_images)})" for name in other]
        remedies = [_remedy(recipes[name], name, most - totals[name], real_images) for name in other]
        raise AmalgamError(f"most arms take {most} optimizer steps, but {'; '.join(told)}", "; ".join(remedies))
    return most


def epochs_for(steps: int, real_images: int, batch: int) -> float:
    """Return epochs that make exactly `steps` optimizer steps (at least 1), with as few decimals as that takes."""
    exact = (steps + 0.5) * batch / real_images  # in the middle, where no rounding changes the number
    counts = ((epochs, int(epochs * real_images / batch)) for epochs in (round(exact, d) for d in range(17)))
    return next((epochs for epochs, count in counts if count == steps and epochs > 0), exact)


def _parts(recipes: Mapping[str, Recipe], line: Sequence[str], real_images: int) -> str:
    return ", ".join(f"{each}: {step_count(recipes[each], real_images)}" for each in line)


def _remedy(recipe: Recipe, name: str, missing: int, real_images: int) -> str:
    steps = step_count(recipe, real_images) + missing
    if steps < 1:
        return f"shorten what {name} needs: {', '.join(recipe.needs)}"
    epochs = str(epochs_for(steps, real_images, recipe.schedule.batch)).removesuffix(".0")
    return f"set schedule.epochs of {name} to {epochs}"
