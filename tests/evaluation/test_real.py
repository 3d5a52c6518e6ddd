"""Published masks over real footage give the published figures. Needs the data: see the skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segspn.evaluation import Evaluation, evaluate_davis

ROOT = os.environ.get("SEGSPN_DAVIS_ROOT")
PUBLISHED = os.environ.get("SEGSPN_PUBLISHED_MASKS")

pytestmark = pytest.mark.skipif(
    not ROOT or not PUBLISHED,
    reason="set SEGSPN_DAVIS_ROOT and SEGSPN_PUBLISHED_MASKS (a folder per method) to run it",
)

# J and F per sequence from the official per-frame results of DAVIS 2016 val.
TABLE = {
    "osvos": {
        "blackswan": (0.94, 0.98),
        "bmx-trees": (0.56, 0.74),
        "breakdance": (0.71, 0.74),
        "car-shadow": (0.94, 0.94),
        "dog": (0.91, 0.92),
        "drift-straight": (0.68, 0.71),
        "goat": (0.88, 0.90),
        "kite-surf": (0.69, 0.63),
        "libby": (0.81, 0.90),
        "scooter-black": (0.71, 0.72),
    },
    "siammask": {
        "blackswan": (0.80, 0.75),
        "bmx-trees": (0.52, 0.66),
        "breakdance": (0.46, 0.45),
        "car-shadow": (0.93, 0.98),
        "dog": (0.86, 0.81),
        "drift-straight": (0.88, 0.81),
        "goat": (0.79, 0.72),
        "kite-surf": (0.40, 0.33),
        "libby": (0.64, 0.78),
        "scooter-black": (0.72, 0.65),
    },
}
TOTAL = {"osvos": 0.799, "siammask": 0.696}


@pytest.mark.parametrize("method", sorted(TABLE))
def test_published_figures(method, tmp_path):
    assert ROOT and PUBLISHED
    evaluation: Evaluation = evaluate_davis(
        ROOT, 2016, "val", Path(PUBLISHED) / method, tmp_path, plots=False, progress=False
    )
    found = {o.sequence: (o.j.mean, o.f.mean) for o in evaluation.objects}
    expected = TABLE[method]
    missing = set(expected) - set(found)
    if missing:
        pytest.skip(f"the data lacks {sorted(missing)}")
    for name, pair in expected.items():
        # The table is rounded to two decimals.
        assert found[name] == pytest.approx(pair, abs=0.0051), name
    if set(found) == set(expected):
        assert evaluation.total.jf == pytest.approx(TOTAL[method], abs=0.00051)
