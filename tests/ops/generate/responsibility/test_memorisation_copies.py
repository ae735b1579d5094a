"""Single copies: how they are suspected, how pixels confirm them, and what is written of them."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.data.loading import open_images
from ops.generate.responsibility.copies import (
    COPIES_SCHEMA,
    Nearest,
    Sample,
    aligned_distances,
    draw_closest,
    find_nearest,
    hashes_of,
    nearest_hashes,
    pixel_digests,
    sample_of,
    write_copies,
)
from ops.generate.responsibility.neighbours import nearest


def noise_images(count: int, seed: int, side: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def by_loops(image, original, shift):
    """Return the least root mean squared difference over mirrorings and shifts, pixel by pixel."""
    height, width = image.shape[:2]
    best = np.inf
    for turned in (original, original[:, ::-1]):
        for dy in range(-shift, shift + 1):
            for dx in range(-shift, shift + 1):
                total, count = 0.0, 0
                for y in range(shift, height - shift):
                    for x in range(shift, width - shift):
                        for c in range(3):
                            total += (float(turned[y + dy, x + dx, c]) - float(image[y, x, c])) ** 2
                            count += 1
                best = min(best, (total / count) ** 0.5 / 255)
    return best


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_aligned_distances_by_loops(shift):
    images, originals = noise_images(3, 0), noise_images(4, 1)
    candidates = np.array([[0, 1], [2, 3], [3, 0]])
    least, which = aligned_distances(images, originals, candidates, shift)
    for i, row in enumerate(candidates):
        expected = [by_loops(images[i], originals[j], shift) for j in row]
        assert least[i] == pytest.approx(min(expected), rel=1e-5)
        assert which[i] == int(np.argmin(expected))


def test_shifted_and_mirrored_copies_are_at_zero():
    originals = noise_images(200, 2)
    moved = np.roll(originals, (1, -1), axis=(1, 2))
    candidates = np.stack([np.arange(200)[::-1], np.arange(200)], axis=1)
    for images in (originals, moved, originals[:, :, ::-1], moved[:, :, ::-1]):
        least, which = aligned_distances(images, originals, candidates, 1)
        assert (least == 0).all()
        assert (which == 1).all()
    assert aligned_distances(moved, originals, candidates, 0)[0].min() > 0.1


def test_hashes_by_counting_bits():
    rng = np.random.default_rng(0)
    hashes, others = rng.integers(0, 2**63, 300).astype(np.uint64), rng.integers(0, 2**63, 50).astype(np.uint64)
    bits, places = nearest_hashes(hashes, others)
    for value, found, place in zip(hashes, bits, places, strict=True):
        counts = [bin(int(value) ^ int(other)).count("1") for other in others]
        assert (found, place) == (min(counts), counts.index(min(counts)))


def as_sample(images: np.ndarray, name: str) -> Sample:
    features = images.reshape(len(images), -1).astype(np.float64)
    names = [f"{name}-{i}" for i in range(len(images))]
    return Sample(images, features, hashes_of(images), hashes_of(images[:, :, ::-1]), names)


def test_the_original_is_found_by_every_route():
    """Exactly, by hash where features mislead, and by features where hashes do."""
    train = as_sample(noise_images(30, 3), "train")
    known = {digest: i for i, digest in enumerate(pixel_digests(train.images))}
    assert pixel_digests(train.images[:1])[0] == hashlib.sha256(train.images[0].tobytes()).hexdigest()
    images = np.stack(
        [train.images[4], train.images[9][:, ::-1], np.roll(train.images[7], 1, axis=1), noise_images(1, 9)[0]]
    )
    sample = as_sample(images, "made")
    wrong = np.full((4, 2), 11)
    found = find_nearest(sample, train, known, np.ones((4, 2)), wrong, 1)
    assert found.exact.tolist() == [True, False, False, False]
    assert found.closest[:2].tolist() == [4, 9]
    assert found.pixels[:2].tolist() == found.bits[:2].tolist() == [0, 0]
    assert found.distances.tolist() == [1, 1, 1, 1]
    distances, places = nearest(sample.features, train.features, 30)
    everything = find_nearest(sample, train, {}, distances, places, 1)
    assert not everything.exact.any()
    assert everything.closest[:3].tolist() == [4, 9, 7]
    assert (everything.pixels[:3] == 0).all()
    assert everything.pixels[3] > 0.1


def test_hashes_are_those_of_manifests(shards, tmp_path):
    images = open_images(shards, "train", tmp_path)
    sample = sample_of(images, np.ones((96, 3), np.float32), "train")
    assert (sample.phash == hashes_of(images.images)).all()
    assert (sample.mirrored == hashes_of(images.images[:, :, ::-1])).all()
    assert (sample.mirrored != sample.phash).any()
    assert sample.ids == images.table["id"].tolist()


def test_copies_are_written_with_one_schema(tmp_path):
    line = {
        "source": "a", "space": "s", "id": "x", "training_id": "t", "confirmed": True, "found": ["exact", "phash"],
        "pixel_distance": 0.5, "reconstruction_distance": 0.25, "feature_distance": 1.0, "phash_bits": 3,
    }  # fmt: skip
    table = pd.DataFrame([line])
    write_copies(tmp_path / "some.parquet", [table, table.iloc[:0], table])
    found = pq.read_table(tmp_path / "some.parquet")
    assert found.schema.names == COPIES_SCHEMA.names
    assert found.to_pylist() == [line, line]
    write_copies(tmp_path / "none.parquet", [])
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_the_panel_shows_the_closest_pairs_first(tmp_path):
    images, originals = noise_images(12, 0), noise_images(5, 1)
    pixels = np.linspace(1, 0, 12).astype(np.float32)
    closest = np.arange(12) % 5
    zeros = np.zeros(12)
    near = Nearest(zeros, closest, zeros.astype(bool), zeros, pixels, closest)
    draw_closest(images, originals, near, 11, tmp_path / "panel.png")
    panel = np.asarray(Image.open(tmp_path / "panel.png"))[::2, ::2]
    assert (panel[:12, :12] == images[11]).all()
    assert (panel[14:26, :12] == originals[11 % 5]).all()
    assert (panel[28:40, :12] == images[1]).all(), "the eleventh pair begins the second block"
    assert (panel[28:40, 14:] == 255).all()
