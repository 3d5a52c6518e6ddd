"""Pictures for people: overlays, cut-outs, the six-picture panel, contact sheets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segspn.video.labels import davis_palette

_BACK = (18, 18, 20)
_INK = (235, 235, 235)


def object_colour(object_id: int) -> tuple[int, int, int]:
    """The drawing colour of an object, RGB: its palette colour, brightened to show on film."""
    return _COLOURS[(object_id - 1) % 254 + 1]


def _bright_palette() -> list[tuple[int, int, int]]:
    # The palette's first colours are half as bright as the screen can show. A curve, rather than a
    # stretch to full brightness, keeps (64, 0, 0), (128, 0, 0) and (192, 0, 0) apart.
    # A floor of white keeps pure blue and red readable over dark footage.
    lifted = 50 + 205 * (davis_palette() / 255) ** 0.6
    return [(int(r), int(g), int(b)) for r, g, b in lifted]


_COLOURS = _bright_palette()


def overlay(
    frame: np.ndarray,
    labels: np.ndarray,
    ids: Iterable[int],
    alpha: float = 0.5,
    contour: bool = True,
) -> np.ndarray:
    """The frame with the objects ``ids`` tinted, uint8 (H, W, 3).

    ``frame`` uint8 (H, W, 3) RGB; ``labels`` integers (H, W) in 0..65535; ``alpha`` 0..1, the
    strength of the tint; ``contour`` draws each object's edge in its full colour.
    """
    picture = frame.copy()
    width = max(1, round(min(labels.shape) / 300))
    x, y, box_width, box_height = cv2.boundingRect((labels > 0).view(np.uint8))
    # Nothing changes beyond the box and a rim of a pixel; edges look `width` pixels far.
    top, left = max(0, y - width - 1), max(0, x - width - 1)
    box = (slice(top, y + box_height + width + 1), slice(left, x + box_width + width + 1))
    if box_width:
        _tint(picture[box], labels[box], ids, alpha, width if contour else 0)
    return picture


def _tint(
    picture: np.ndarray, labels: np.ndarray, ids: Iterable[int], alpha: float, width: int
) -> None:
    """Tint objects in place and draw their contours, ``width`` pixels wide; 0 for none."""
    shown, colours = _paint(labels, ids)
    inside = shown > 0
    tinted = cv2.addWeighted(picture, 1 - alpha, colours, alpha, 0)
    cv2.copyTo(tinted, inside.view(np.uint8), picture)
    if width:
        edge = _inner_edge(shown, width)
        bright = np.arange(256) + (255 - np.arange(256)) // 4
        cv2.copyTo(cv2.LUT(colours, bright.astype(np.uint8)), edge, picture)
        # A dark line outside makes the contour crisp over footage of the object's own colour.
        rim = (cv2.dilate(edge, np.ones((3, 3), np.uint8)) > 0) & ~inside
        picture[rim] //= 3


def cutout(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The frame with everything but the object transparent, uint8 (H, W, 4) RGBA.

    ``mask`` (H, W): bool, a float score in 0..1, or a uint8 score (255 for certain), which becomes
    the alpha channel. The colours are left as they are, not multiplied by alpha.
    """
    if mask.dtype == np.bool_:
        alpha = mask.astype(np.uint8) * 255
    elif mask.dtype == np.uint8:
        alpha = mask
    else:
        alpha = np.rint(np.clip(mask, 0, 1) * 255.0).astype(np.uint8)
    return np.dstack([frame, alpha])


def panel(
    frame: np.ndarray,
    annotation: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    caption: str = "annotation",
) -> np.ndarray:
    """The six pictures of the authors' CRAF demo in a captioned 2 x 3 grid, uint8 (h, w, 3) RGB.

    Above: frame, before CRAF, after CRAF; below: annotation, before and after over the frame.
    ``frame`` uint8 (H, W, 3); the others are label maps (H, W); ``annotation`` is that of the
    annotated frame, or what ``caption`` says.
    """
    pictures = [
        ("frame", frame),
        ("before CRAF", label_picture(before)),
        ("after CRAF", label_picture(after)),
        (caption, label_picture(annotation)),
        ("before CRAF, over the frame", overlay(frame, before, _present(before))),
        ("after CRAF, over the frame", overlay(frame, after, _present(after))),
    ]
    return _grid(pictures, columns=3, width=min(640, frame.shape[1]))


def contact_sheet(
    frames: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    ids: Iterable[int],
    columns: int = 4,
    names: Sequence[str] | None = None,
    width: int = 320,
) -> np.ndarray:
    """Overlays of several frames in a grid, each with its frame number, uint8 (h, w, 3) RGB.

    ``frames`` uint8 (H, W, 3), all of one size; ``labels`` their label maps (H, W); ``names`` the
    captions (default: 0, 1, ...); ``width`` that of each picture, in pixels. Raises `ValueError`
    where there is no frame or the lengths differ.
    """
    if not frames:
        raise ValueError("a contact sheet needs at least one frame")
    ids = tuple(ids)
    if names is None:
        names = [str(i) for i in range(len(frames))]
    pictures = [
        (name, overlay(_shrunk(frame, width), _shrunk_labels(label, width), ids))
        for name, frame, label in zip(names, frames, labels, strict=True)
    ]
    return _grid(pictures, columns=min(columns, len(pictures)), width=width)


def label_picture(labels: np.ndarray) -> np.ndarray:
    """A label map (H, W) in the drawing colours on black, uint8 (H, W, 3) RGB."""
    return _paint(labels, _present(labels))[1]


def _paint(labels: np.ndarray, ids: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """``labels`` as uint8 or uint16 with only ``ids`` left, and their colours (H, W, 3) on black."""
    wanted = tuple(ids)
    size = max(int(labels.max(initial=0)), max(wanted, default=0)) + 1
    small = size <= 256
    kept: np.ndarray = np.zeros(256 if small else size, np.uint8 if small else np.uint16)
    colours = np.zeros((len(kept), 3), np.uint8)
    for object_id in wanted:
        kept[object_id] = object_id
        colours[object_id] = object_colour(object_id)
    if not small:
        return kept[labels], colours[labels]
    # several times as fast, but for bytes alone
    shown = cv2.LUT(labels.astype(np.uint8), kept)
    return shown, cv2.LUT(cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB), colours[None])


def _inner_edge(labels: np.ndarray, width: int) -> np.ndarray:
    """uint8 (H, W): 255 for pixels of objects within ``width`` of another label, else 0."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    differs = cv2.compare(cv2.erode(labels, kernel), cv2.dilate(labels, kernel), cv2.CMP_NE)
    differs[labels == 0] = 0
    return differs


def _present(labels: np.ndarray) -> list[int]:
    return [int(value) for value in np.unique(labels) if value > 0]


def _height_for(shape: tuple[int, ...], width: int) -> int:
    return max(1, round(shape[0] * width / shape[1]))


def _shrunk(picture: np.ndarray, width: int) -> np.ndarray:
    height = _height_for(picture.shape, width)
    smaller = width < picture.shape[1]
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )


def _shrunk_labels(labels: np.ndarray, width: int) -> np.ndarray:
    # Contours are drawn after shrinking, so that they stay one pixel wide and sharp.
    height = _height_for(labels.shape, width)
    return cv2.resize(labels.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _grid(pictures: Sequence[tuple[str, np.ndarray]], columns: int, width: int) -> np.ndarray:
    """Pictures of one size, scaled to ``width``, in rows with a caption above each."""
    gap = max(4, width // 60)
    text = max(11, width // 24)
    caption = text + text // 2 + gap
    height = _height_for(pictures[0][1].shape, width)
    rows = -(-len(pictures) // columns)
    sheet = Image.new(
        "RGB", (gap + columns * (width + gap), gap + rows * (caption + height + gap)), _BACK
    )
    ink = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=text)
    for position, (name, picture) in enumerate(pictures):
        row, column = divmod(position, columns)
        x, y = gap + column * (width + gap), gap + row * (caption + height + gap)
        ink.text((x, y + caption / 2), name, fill=_INK, font=font, anchor="lm")
        scaled = picture if picture.shape[1] == width else _shrunk(picture, width)
        sheet.paste(Image.fromarray(scaled), (x, y + caption))
    return np.array(sheet)
