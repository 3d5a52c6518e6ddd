"""Results as detections of the `supervision` package, for its annotators, zones and sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from segspn.errors import InputError

if TYPE_CHECKING:
    from segspn.pipeline import Result


def to_supervision(result: Result) -> Any:
    """The objects that are visible in a result, as ``supervision.Detections``.

    ``mask`` bool ``(n, H, W)``; ``xyxy`` float32 ``(n, 4)``, the masks' boxes, x1 and y1 of their last
    pixels; ``tracker_id`` int64 ``(n,)``, the objects' ids; ``class_id`` all 0, since nothing is known
    of classes; ``confidence`` float32 ``(n,)``, the mean score inside each mask. Raises InputError
    without the package.

    >>> picture = sv.MaskAnnotator(color_lookup=sv.ColorLookup.TRACK).annotate(
    ...     frame.copy(), segspn.to_supervision(result))
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise InputError(
            "supervision is not installed: pip install 'supervision>=0.31' (earlier ones bring "
            "opencv-python, whose files overwrite those of opencv-python-headless)"
        ) from error
    masks, boxes, ids, scores = [], [], [], []
    for object_id, score in zip(result.ids, result.scores, strict=True):
        mask = result.labels == object_id
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        if width:
            masks.append(mask)
            boxes.append((x, y, x + width - 1, y + height - 1))
            ids.append(object_id)
            scores.append(float(score[mask].mean()))
    if not masks:
        return Detections.empty()
    return Detections(
        xyxy=np.array(boxes, np.float32),
        mask=np.stack(masks),
        confidence=np.array(scores, np.float32),
        class_id=np.zeros(len(ids), int),
        tracker_id=np.array(ids, int),
    )
