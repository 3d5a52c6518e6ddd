from __future__ import annotations

import numpy as np

from segspn.compiled import njit
from segspn.exponential import sigmoid


@njit
def sigmoids(x, out):  # type: ignore[no-untyped-def]
    for k in range(len(x)):
        out[k] = sigmoid(x[k])


def test_sigmoid_of_small_and_large_values() -> None:
    x = np.concatenate((np.linspace(-30, 30, 10_001), [-1e30, -200, -88, 88, 200, 1e30]))
    out = np.empty(len(x), np.float32)
    sigmoids(x.astype(np.float32), out)
    expected = 1 / (1 + np.exp(-np.clip(x.astype(np.float32).astype(np.float64), -700, 700)))
    assert np.allclose(out, expected, rtol=1e-5, atol=1e-37)
    assert out.min() >= 0 and out.max() <= 1
