"""Adding a generator to rated ones without comparing it with all of them.

As for the new model in the Imagen 3 report's update of December 2024: first against the best, then, from where that puts
it, against four neighbours above and four below. The pairs are those of a new plan (`build_plan(pairs=...)`); the old
votes and the new ones are rated together (`exports.merged`).
"""

from collections.abc import Mapping

from ops.errors import AmalgamError
from ops.generate.preference.ratings import Ratings

Pair = tuple[str, str]
NEIGHBOURS = 4
"""Above, and below."""


def first_pairs(rated: Ratings, new: str) -> list[Pair]:
    """Return the first pair to compare: the new generator and the best one. AmalgamError if `new` is rated already."""
    if new in rated.sources:
        raise AmalgamError(f"{new} is rated already", "name a generator that no vote is about")
    return [(new, rated.sources[int(rated.ratings.argmax())])]


def neighbour_pairs(rated: Ratings, new: str, each: int = NEIGHBOURS) -> list[Pair]:
    """Return the pairs to compare next: the new generator with `each` sources just above it and `each` just below.

    `rated` are the ratings with the first pair's votes in them. The source that it met first is left out, even if it is a
    neighbour; fewer are returned where the scale ends. Raises AmalgamError if `new` is not rated.
    """
    if new not in rated.sources:
        raise AmalgamError(f"{new} is not rated yet", "compare it with the best generator first (first_pairs)")
    scale: Mapping[str, float] = dict(zip(rated.sources, rated.ratings.tolist(), strict=True))
    old = [name for name in scale if name != new]
    best = max(old, key=lambda name: scale[name])
    above = sorted((n for n in old if scale[n] >= scale[new]), key=lambda name: scale[name])[:each]
    below = sorted((n for n in old if scale[n] < scale[new]), key=lambda name: -scale[name])[:each]
    return [(new, name) for name in (*reversed(above), *below) if name != best]
