"""Captions from what is known of an image, in several phrasings (as Imagen 3 captions its training images)."""

import re
from collections.abc import Mapping
from typing import Any

from ops.runtime import derive_seed

TEMPLATES = (
    "{subject}",
    "a {domain} drawing of {subject}",
    "{subject}, in {domain} style",
    "{label}: {subject}",
)
"""Four phrasings, so that the generator does not hang on one."""
PERSONAL = re.compile(r"[\w.+-]+@[\w-]+\.\w+|https?://\S+|\+?\d[\d ()/-]{7,}\d")
"""Mail addresses, links and telephone numbers."""


def subject_of(name: str, attributes: Mapping[str, str], dataset: Mapping[str, Any]) -> str:
    """Return `name` followed by the phrase of each attribute that has one (`woman judge, dark skin tone`)."""
    names = dataset.get("attribute_names", {})
    phrases = dataset.get("attribute_phrases", {})
    parts = [
        phrases[a].format(names.get(a, {}).get(value, value)) for a, value in sorted(attributes.items()) if a in phrases
    ]
    return ", ".join([name, *parts])


def caption_of(
    name: str, label: str, domain: str, attributes: Mapping[str, str], dataset: Mapping[str, Any], *seed: int | str
) -> str:
    """Return a caption; `seed` chooses the phrasing."""
    template = TEMPLATES[derive_seed("caption", *seed) % len(TEMPLATES)]
    return phrase(template, name, label, domain, attributes, dataset)


def phrase(
    template: str, name: str, label: str, domain: str, attributes: Mapping[str, str], dataset: Mapping[str, Any]
) -> str:
    """Return the caption in one of `TEMPLATES`."""
    return template.format(subject=subject_of(name, attributes, dataset), domain=domain.replace("_", " "), label=label)


def without_personal_data(caption: str) -> tuple[str, bool]:
    """Return `caption` with mail addresses, links and telephone numbers removed, and whether there were any."""
    clean = re.sub(r"\s+", " ", PERSONAL.sub("", caption)).strip()
    return clean, clean != caption
