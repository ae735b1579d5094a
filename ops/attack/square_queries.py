"""The queries of Square Attack: how wide their squares are, and how many of an image's to ask for at once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ops.attack.square_patches import CHUNK, side_of_square
from ops.attack.threat import Norm

PASS_ROWS = 8
"""A pass of the network costs what as many images cost, and those that it is of."""


class Stretch(NamedTuple):
    """Queries from `begin` up to `end`, all with squares of one `side` in pixels, and numbers that are drawn at once."""

    begin: int
    end: int
    side: int


def stretches(queries: int, pace: float, height: int, width: int, norm: Norm) -> Iterator[Stretch]:
    """Yield the stretches of so many `queries`, each of which counts for `pace` of the schedule of sides."""
    begin = 0
    while begin < queries:
        side = side_of_square(int(begin * pace), height, width, norm)
        last = min(queries, begin - begin % CHUNK + CHUNK)
        others = (
            query for query in range(begin, last) if side_of_square(int(query * pace), height, width, norm) != side
        )
        end = next(others, last)
        yield Stretch(begin, end, side)
        begin = end


class Ahead:
    """How many queries of each image to ask for at once, judged by how many changed it lately."""

    def __init__(self) -> None:
        self.changes, self.asked = 1.0, 4.0  # at first about every fourth does

    def note(self, changes: int, asked: int) -> None:
        """Count `changes` among the queries that were `asked` and stand."""
        self.changes, self.asked = self.changes + changes, self.asked + asked

    def forget(self) -> None:
        """Let what was counted until now weigh half as much: squares shrink."""
        self.changes, self.asked = self.changes / 2, self.asked / 2

    def queries(self, images: int, batch: int) -> int:
        """Return how many, where so many `images` are left: those for which a query costs least, in `batch` rows at most.

        Of k queries in one pass, those up to the first that changes the image stand: (1 - (1 - p)^k) / p on average.
        """
        p = self.changes / self.asked
        ahead = np.arange(1, max(1, batch // images) + 1)
        standing = (1 - (1 - p) ** ahead) / p
        return int(ahead[np.argmin((PASS_ROWS + images * ahead) / standing)])
