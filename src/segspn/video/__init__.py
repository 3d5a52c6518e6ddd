"""Pixels in and out: sources, live ones too, object masks, label files, drawing and video sinks."""

from segspn.video.ahead import prefetch
from segspn.video.atomic import replacing, write_bytes
from segspn.video.draw import contact_sheet, cutout, label_picture, object_colour, overlay, panel
from segspn.video.images import (
    IMAGE_SUFFIXES,
    header_size,
    is_plain_grey,
    list_images,
    natural_key,
)
from segspn.video.labels import (
    LARGEST_ID,
    davis_palette,
    needs_wide,
    read_labels,
    read_score_map,
    write_labels,
    write_mask,
    write_picture,
    write_score_map,
)
from segspn.video.live import Newest, live_frames, paced
from segspn.video.masks import (
    MOST_OBJECTS,
    ObjectMasks,
    read_object_masks,
    require_objects,
    resize_labels,
)
from segspn.video.sinks import VideoWriter
from segspn.video.source import Source, open_source

__all__ = [
    "IMAGE_SUFFIXES",
    "LARGEST_ID",
    "MOST_OBJECTS",
    "Newest",
    "ObjectMasks",
    "Source",
    "VideoWriter",
    "contact_sheet",
    "cutout",
    "davis_palette",
    "header_size",
    "is_plain_grey",
    "label_picture",
    "list_images",
    "live_frames",
    "natural_key",
    "needs_wide",
    "object_colour",
    "open_source",
    "overlay",
    "paced",
    "panel",
    "prefetch",
    "read_labels",
    "read_object_masks",
    "read_score_map",
    "replacing",
    "require_objects",
    "resize_labels",
    "write_bytes",
    "write_labels",
    "write_mask",
    "write_picture",
    "write_score_map",
]
