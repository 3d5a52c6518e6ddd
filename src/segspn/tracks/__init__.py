"""Masks of every frame by any tool, read as one stream; and out for others: RLE, detections."""

from segspn.tracks.base import FrameMasks, Tracks
from segspn.tracks.coco import coco_writer
from segspn.tracks.detections import to_supervision
from segspn.tracks.open import open_tracks
from segspn.tracks.rle import decode_rle, encode_rle

__all__ = [
    "FrameMasks",
    "Tracks",
    "coco_writer",
    "decode_rle",
    "encode_rle",
    "open_tracks",
    "to_supervision",
]
