"""What an evaluation runs: a preset over one sequence, whole or with stages switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from segspn.evaluation import VARIANTS, SegmentSequence
from segspn.jobs.layout import make_folders
from segspn.jobs.stage_models import with_preset
from segspn.video import needs_wide, open_source, prefetch, read_object_masks, write_labels

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter
    from segspn.presets import Preset


def sequence_segmenter(segmenter: Segmenter) -> SegmentSequence:
    """What an evaluation needs: segments one sequence, leaving nothing but label PNGs."""

    def segment(images: Path, mask: Path, folder: Path) -> None:
        source = open_source(images)
        masks = read_object_masks(mask, source.size)
        wide = needs_wide(masks.ids)
        make_folders([folder])
        session = segmenter.session(keep=1)
        for index, frame in enumerate(prefetch(source.read())):
            result = session.step(frame) if index else session.begin(frame, masks.labels)
            write_labels(folder / f"{source.names[index]}.png", result.labels, wide)

    return segment


def ablation_segmenters(segmenter: Segmenter) -> dict[str, SegmentSequence]:
    """The variants of the paper's Table 2, each without one stage more than the one before."""
    preset = segmenter.preset
    made: dict[str, SegmentSequence] = {}
    changes: tuple[Callable[[Preset], Preset], ...] = (
        lambda p: p,
        lambda p: replace(p, craf=replace(p.craf, enabled=False)),
        lambda p: replace(p, spn=replace(p.spn, enabled=False)),
        lambda p: replace(
            p,
            foreground=replace(p.foreground, adapt=False),
            instance=replace(p.instance, tune=False),
        ),
    )
    for name, change in zip(VARIANTS, changes, strict=True):
        preset = change(preset)
        made[name] = sequence_segmenter(with_preset(segmenter, preset))
    return made
