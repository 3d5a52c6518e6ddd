from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from segspn.tracks import decode_rle, encode_rle

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


def blobs(seed: int, size: tuple[int, int] = (120, 90)) -> np.ndarray:
    """A mask with long and short runs, so that counts take one character and several."""
    y, x = np.mgrid[: size[0], : size[1]]
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, bool)
    for _ in range(5):
        cy, cx, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(1, 30)
        mask ^= (y - cy) ** 2 + (x - cx) ** 2 < r**2
    return mask


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_decoding_undoes_encoding(mask):
    encoded = encode_rle(mask)
    assert encoded["size"] == list(mask.shape)
    assert np.array_equal(decode_rle(encoded["counts"], mask.shape), mask)


def test_the_format_by_hand():
    # Columns: 0 0 0 | 1 1 0 | 0 0 0 -> runs 3, 2, 4; each is one character, chr(48 + run).
    mask = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    assert encode_rle(mask) == {"size": [3, 3], "counts": "324"}
    assert np.array_equal(decode_rle([3, 2, 4], (3, 3)), mask)
    assert encode_rle(np.ones((2, 2), bool))["counts"] == "04"
    assert encode_rle(np.zeros((2, 2), bool))["counts"] == "4"


@pytest.mark.parametrize("seed", range(5))
def test_the_same_as_pycocotools(seed):
    tools = pytest.importorskip("pycocotools.mask")
    mask = blobs(seed)
    theirs = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == theirs["counts"].decode()
    ours = {**encode_rle(mask), "counts": encode_rle(mask)["counts"].encode()}
    assert np.array_equal(tools.decode(ours), mask)
    assert np.array_equal(decode_rle(theirs["counts"].decode(), (120, 90)), mask)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ("32", "do not add up to 3x3"),
        ([3, 2, 5], "do not add up to 3x3"),
        ([10, -1], "do not add up"),
        ("3\n4", "which no compressed RLE has"),
        ("3é4", "which no compressed RLE has"),
        ("32\\", "cut off"),
        (["3", "6"], "neither a string nor a list"),
        ([4.5, 4.5], "neither a string nor a list"),
        (9, "neither a string nor a list"),
        (None, "neither a string nor a list"),
    ],
)
def test_damaged_counts(counts, told):
    with pytest.raises(ValueError, match=told):
        decode_rle(counts, (3, 3))
