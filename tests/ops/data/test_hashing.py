import imagehash
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ops.data.hashing import clusters, phash, similar_pairs


def test_phash_is_imagehashs():
    rng = np.random.default_rng(0)
    smooth = [
        np.asarray(Image.fromarray(rng.integers(0, 255, (6, 6), dtype=np.uint8)).resize((32, 32))) for _ in range(50)
    ]
    ours = phash(np.stack(smooth))
    theirs = [int(str(imagehash.phash(Image.fromarray(g))), 16) for g in smooth]
    assert [int(h) for h in ours] == theirs


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=25), st.integers(0, 6), st.integers(0, 2**32))
def test_similar_pairs_are_those_of_brute_force(values, distance, seed):
    rng = np.random.default_rng(seed)
    near = [v ^ (1 << int(b)) ^ (1 << int(c)) for v in values for b, c in [rng.integers(0, 64, 2)]]
    hashes = np.array(values + near, np.uint64)
    brute = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= distance
    }
    assert {tuple(map(int, pair)) for pair in similar_pairs(hashes, distance)} == brute


def test_clusters_are_connected_components():
    number = clusters(np.array([[0, 1], [1, 4], [2, 3]]), 6)
    groups = {frozenset(np.flatnonzero(number == k).tolist()) for k in set(number)}
    assert groups == {frozenset({0, 1, 4}), frozenset({2, 3}), frozenset({5})}
