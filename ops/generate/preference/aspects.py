"""What raters are asked: the four side-by-side questions of the Imagen 3 report (2408.07009).

Each aspect is judged alone, in a study of its own. The report's fifth aspect, numerical reasoning, is left out: it
counts the objects of single images, which needs prompts that ask for a number of things, and captions here do not.
"""

from dataclasses import dataclass

from ops.errors import AmalgamError


@dataclass(frozen=True)
class Aspect:
    """One question about two images."""

    name: str
    """In measurements, such as `overall preference`."""
    question: str
    hint: str
    """What to leave out of account; may be empty."""
    shows_prompt: bool
    shows_reference: bool


ASPECTS = {
    "overall": Aspect("overall preference", "Which image do you prefer for this prompt?", "", True, False),
    "alignment": Aspect(
        "prompt-image alignment",
        "Which image shows better what the prompt says?",
        "Ignore style and defects that the prompt does not mention.",
        True,
        False,
    ),
    "appeal": Aspect("visual appeal", "Which image is more appealing?", "", False, False),
    "detailed": Aspect(
        "detailed alignment",
        "Which image shows better what the reference shows?",
        "The reference is a real image; ignore style and defects.",
        False,
        True,
    ),
}
"""By the short name that settings and options use."""


def aspect_of(key: str) -> Aspect:
    """Return the aspect called `key`; raises AmalgamError if there is none."""
    if key not in ASPECTS:
        raise AmalgamError(f"there is no aspect {key!r}", f"use one of: {', '.join(ASPECTS)}")
    return ASPECTS[key]
