"""What a voter sees and does, without the web: tickets in, votes out.

A ticket stands for one comparison before one voter. It is a keyed hash, as are the addresses of its images: neither the
page nor its addresses say which generator made what. The key is a file beside the votes, so that a page that was open
while the server was restarted goes on.
"""

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.errors import AmalgamError
from ops.files import replacing
from ops.generate.preference.aspects import aspect_of
from ops.generate.preference.assignment import next_comparison, workload
from ops.generate.preference.study import Comparison, EvalPlan, Side, check_images, sides
from ops.generate.preference.votes import Vote, VoteStore, check_rater

if TYPE_CHECKING:
    from ops.data.loading import ImageSet

KEY_BYTES = 32
CHOICES: Mapping[str, Mapping[str, str]] = {
    "AB": {"left": "A", "right": "B", "tie": "tie"},
    "BA": {"left": "B", "right": "A", "tie": "tie"},
}
"""What a press means, by how the two stand."""


@dataclass(frozen=True)
class Shown:
    """One comparison as one voter sees it."""

    rater_id: str
    comparison: Comparison
    side: Side


class Booth:
    """The state of one study that is open for votes.

    Raises AmalgamError where the images are not those that the plan was made for, or where the votes are open in another
    process.
    """

    def __init__(
        self,
        plan: EvalPlan,
        sources: "Mapping[str, ImageSet]",
        folder: Path,
        real: "ImageSet | None" = None,
        per_rater: int = 100,
    ) -> None:
        check_images(plan, sources, real)
        self.plan, self.per_rater = plan, per_rater
        self.store = VoteStore(plan, folder / "votes" / f"{plan.study_id}.jsonl")
        self._key = _key(folder / ".tickets")
        self._pictures = {name: (images.images, _rows(images, "key")) for name, images in sources.items()}
        self._references = None if real is None else (real.images, _rows(real, "id"))
        self._prompts = {prompt.prompt_id: prompt for prompt in plan.prompts}
        self._tickets: dict[str, Shown] = {}
        self._known: set[str] = set()
        self._current: dict[str, str] = {}

    def close(self) -> None:
        """Let go of the votes."""
        self.store.close()

    def about(self) -> dict[str, Any]:
        """Return what the page says before anyone votes."""
        aspect = aspect_of(self.plan.aspect)
        return {"aspect": aspect.name, "question": aspect.question, "total": workload(self.plan, self.per_rater)}

    def show(self, rater_id: str) -> dict[str, Any]:
        """Return the comparison before a voter, the same until they vote; without a ticket if they are done."""
        self._meet(rater_id)
        mine = self.store.of(rater_id)
        found: dict[str, Any] = {"done": len(mine), "total": workload(self.plan, self.per_rater), "ticket": None}
        if rater_id not in self._current:
            comparison = next_comparison(self.plan, self.store.votes(), rater_id, self.per_rater)
            if comparison is None:
                return found
            self._current[rater_id] = self._ticket(rater_id, comparison)
        ticket = self._current[rater_id]
        shown, aspect = self._tickets[ticket], aspect_of(self.plan.aspect)
        prompt = self._prompts[shown.comparison.prompt_id]
        return {
            **found,
            "ticket": ticket,
            "question": aspect.question,
            "hint": aspect.hint,
            "prompt": prompt.caption if aspect.shows_prompt else None,
            "reference": aspect.shows_reference,
            "pixels": int(self._pictures[shown.comparison.pair[0]][0].shape[1]),
        }

    def vote(self, rater_id: str, ticket: str, press: str) -> None:
        """Write what a voter pressed (left, right or tie). Raises AmalgamError for another's or an unknown ticket."""
        self._meet(rater_id)
        shown = self._tickets.get(ticket)
        if shown is None or shown.rater_id != rater_id or press not in CHOICES["AB"]:
            raise AmalgamError("this vote belongs to no pair that you were shown", "reload the page and vote again")
        pair, prompt = shown.comparison.name
        choice = CHOICES[shown.side][press]
        self.store.add(Vote(self.plan.study_id, self.plan.aspect, pair, shown.side, rater_id, prompt, choice))
        self._current.pop(rater_id, None)

    def undo(self, rater_id: str) -> None:
        """Take back a voter's last vote; its comparison is before them again. AmalgamError if there is none."""
        self._meet(rater_id)
        vote = self.store.undo(rater_id)
        if vote is None:
            raise AmalgamError("there is no vote to take back", "vote first")
        comparison = next(c for c in self.plan.comparisons if c.name == vote.comparison)
        self._current[rater_id] = self._ticket(rater_id, comparison)

    def picture(self, ticket: str, place: str) -> bytes:
        """Return the image at a place (left, right or reference) of a ticket as PNG; AmalgamError if there is none."""
        from PIL import Image

        from ops.data.pictures import png

        shown = self._tickets.get(ticket)
        if shown is None or place not in ("left", "right", "reference"):
            raise AmalgamError("there is no such image", "reload the page")
        prompt = self._prompts[shown.comparison.prompt_id]
        if place == "reference":
            if self._references is None or not prompt.reference:
                raise AmalgamError("this study has no references", "reload the page")
            images, rows = self._references
            return png(Image.fromarray(images[rows[prompt.reference]]))
        a, b = shown.comparison.pair
        images, rows = self._pictures[a if (place == "left") == (shown.side == "AB") else b]
        return png(Image.fromarray(images[rows[prompt.prompt_id]]))

    def _meet(self, rater_id: str) -> None:
        """Prepare the tickets of a voter."""
        if rater_id in self._known:
            return
        check_rater(rater_id)
        for comparison, side in zip(self.plan.comparisons, sides(self.plan, rater_id), strict=True):
            self._tickets[self._ticket(rater_id, comparison)] = Shown(rater_id, comparison, side)
        self._known.add(rater_id)

    def _ticket(self, rater_id: str, comparison: Comparison) -> str:
        text = "\x1f".join((self.plan.study_id, rater_id, *comparison.name))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:32]


def rater_of(name: object) -> str:
    """Return the rater id of a name as a person typed it; raises AmalgamError if it can be none."""
    text = " ".join(unicodedata.normalize("NFKC", name).split()) if isinstance(name, str) else ""
    check_rater(text)
    return text


def _rows(images: "ImageSet", column: str) -> dict[str, int]:
    return {value: row for row, value in enumerate(images.table[column])}


def _key(path: Path) -> bytes:
    """Return the key of tickets, made at the first call and readable by this user only."""
    if path.exists() and len(key := path.read_bytes()) == KEY_BYTES:
        return key
    with replacing(path) as temporary:
        temporary.touch(0o600)
        temporary.write_bytes(key := secrets.token_bytes(KEY_BYTES))
    return key
