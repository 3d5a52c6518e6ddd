from __future__ import annotations

import numpy as np
import pytest
from video_clips import picture

from segspn.video import (
    contact_sheet,
    cutout,
    label_picture,
    object_colour,
    overlay,
    panel,
)

FRAME = picture(5, (60, 80))
LABELS = np.zeros((60, 80), np.int32)
LABELS[10:30, 10:30] = 2
LABELS[35:55, 40:70] = 700


def test_colours_are_distinct() -> None:
    colours = np.array([object_colour(i) for i in range(1, 255)])
    assert len(np.unique(colours, axis=0)) == 254
    first = colours[:8].astype(int)
    apart = np.abs(first[:, None] - first[None]).max(axis=2) + 999 * np.eye(8, dtype=int)
    assert apart.min() >= 40


def test_overlay_tints_inside_and_leaves_the_rest() -> None:
    untouched = FRAME.copy()
    plain = overlay(FRAME, LABELS, (2, 700), alpha=0.25, contour=False)
    assert np.array_equal(FRAME, untouched)
    assert np.array_equal(plain[LABELS == 0], FRAME[LABELS == 0])
    for object_id in (2, 700):
        inside = LABELS == object_id
        wanted = 0.75 * FRAME[inside] + 0.25 * np.array(object_colour(object_id))
        assert np.abs(plain[inside] - wanted).max() <= 1
    assert np.array_equal(
        overlay(FRAME, LABELS, (2,), contour=False)[LABELS == 700], FRAME[LABELS == 700]
    )


@pytest.mark.parametrize("contour", [True, False])
def test_ids_beyond_a_byte_are_drawn_like_others(contour: bool) -> None:
    few = np.where(LABELS == 700, 9, LABELS)
    many = np.where(few > 0, few + 254, 0)  # colours come again after 254 ids
    drawn = overlay(FRAME, few, (2, 9), contour=contour)
    assert np.array_equal(drawn, overlay(FRAME, many, (256, 263), contour=contour))
    assert np.array_equal(drawn, overlay(FRAME, few.astype(np.uint16), (2, 9), contour=contour))


def test_contours_run_along_the_edge_only() -> None:
    plain = overlay(FRAME, LABELS, (2, 700), contour=False)
    drawn = overlay(FRAME, LABELS, (2, 700))
    changed = (plain != drawn).any(axis=2)
    assert not changed[13:27, 13:27].any() and not changed[:7].any()
    assert changed[10, 10:30].all() and changed[10:30, 29].all()
    assert len(np.unique(drawn[10, 10:30], axis=0)) == 1


def test_cutouts_take_masks_and_scores() -> None:
    mask = LABELS == 2
    out = cutout(FRAME, mask)
    assert out.shape == (60, 80, 4) and out.dtype == np.uint8
    assert np.array_equal(out[..., :3], FRAME)
    assert np.array_equal(out[..., 3], np.where(mask, 255, 0))
    assert (cutout(FRAME, np.full((60, 80), 0.4, np.float32))[..., 3] == 102).all()
    assert (cutout(FRAME, np.full((60, 80), 77, np.uint8))[..., 3] == 77).all()


def find(sheet: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Where ``part`` lies in ``sheet``, pixel for pixel."""
    h, w = part.shape[:2]
    return [
        (y, x)
        for y in range(sheet.shape[0] - h + 1)
        for x in range(sheet.shape[1] - w + 1)
        if np.array_equal(sheet[y, x : x + w], part[0])
        and np.array_equal(sheet[y : y + h, x : x + w], part)
    ]


def test_the_panel_holds_six_pictures_in_two_rows() -> None:
    before, after = LABELS, np.where(LABELS == 2, 2, 0)
    annotation = np.where(LABELS == 2, 0, LABELS)
    sheet = panel(FRAME, annotation, before, after)
    pictures = [
        FRAME,
        label_picture(before),
        label_picture(after),
        label_picture(annotation),
        overlay(FRAME, before, (2, 700)),
        overlay(FRAME, after, (2,)),
    ]
    places = [find(sheet, p) for p in pictures]
    assert all(len(p) == 1 for p in places)
    rows, columns = zip(*(p[0] for p in places), strict=True)
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4] == rows[5]
    assert columns[:3] == columns[3:] and columns[0] < columns[1] < columns[2]
    # The captions above the pictures leave ink.
    assert (sheet[: rows[0]] > 200).any() and (sheet[rows[0] + 60 : rows[3]] > 200).any()


def test_contact_sheets_are_grids_with_captions() -> None:
    frames = [picture(i, (60, 80)) for i in range(5)]
    sheet = contact_sheet(frames, [LABELS] * 5, (2, 700), columns=3, width=80)
    places = [find(sheet, overlay(f, LABELS, (2, 700))) for f in frames]
    assert all(len(p) == 1 for p in places)
    (y0, x0), (y1, x1), (y3, x3) = places[0][0], places[1][0], places[3][0]
    assert y0 == y1 < y3 and x0 == x3 < x1
    other = contact_sheet(
        frames, [LABELS] * 5, (2, 700), columns=3, width=80, names=["10", "11", "12", "13", "14"]
    )
    assert not np.array_equal(sheet[:y0], other[:y0])
    with pytest.raises(ValueError):
        contact_sheet(frames, [LABELS] * 4, (2,))
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], [], ())
