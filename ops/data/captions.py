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
"""Four phrasings, so that the generator does not hang on one; of drawings. `templates_of` has those of a dataset."""
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


def templates_of(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the phrasings of a dataset: `caption_templates` in its `dataset.json`, or those of drawings.

    `{subject}`, `{domain}` and `{label}` in them are filled in.
    """
    return tuple(dataset.get("caption_templates", TEMPLATES))


def caption_of(
    name: str, label: str, domain: str, attributes: Mapping[str, str], dataset: Mapping[str, Any], *seed: int | str
) -> str:
    """Return a caption; `seed` chooses the phrasing."""
    templates = templates_of(dataset)
    template = templates[derive_seed("caption", *seed) % len(templates)]
    return phrase(template, name, label, domain, attributes, dataset)


def phrase(
    template: str, name: str, label: str, domain: str, attributes: Mapping[str, str], dataset: Mapping[str, Any]
) -> str:
    """Return the caption in one of the phrasings of `templates_of`."""
    return template.format(subject=subject_of(name, attributes, dataset), domain=domain.replace("_", " "), label=label)


def without_personal_data(caption: str) -> tuple[str, bool]:
    """Return `caption` with mail addresses, links and telephone numbers removed, and whether there were any."""
    clean = re.sub(r"\s+", " ", PERSONAL.sub("", caption)).strip()
    return clean, clean != caption
