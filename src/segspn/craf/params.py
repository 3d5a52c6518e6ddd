"""The parameter sets of the filter: data only, one frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperParams:
    """Parameters of the filter as the paper describes it (section 4, "paper")."""

    threshold: float = 0.5
    """Scores above this form regions; it is also the merge threshold. 0..1."""
    alpha: float = 0.2
    """The selected region must be larger than this share of the object's largest region."""
    beta: float = 0.9
    """Above this coverage of another object's region the coverer loses those pixels."""
    gamma: float = 0.1
    """Below this share of its previous size an object looks for a region to recover."""
    delta: float = 0.4
    """Least IoU (exclusive) of a recovered region with the object's previous mask."""


@dataclass(frozen=True)
class ReleaseParams:
    """Parameters of the authors' published demo (section 4, "release"); scores are 0..255."""

    region_score: int = 30
    """Scores above this form regions."""
    hopeless_iou: float = 0.01
    """When no region's IoU is above this, the object is gone in this frame."""
    area_share: float = 0.2
    """The selected region must be larger than this share of the largest region."""
    label_score: int = 100
    """Pixels whose best filtered score is below this are background."""
    recovery_area: int = 100
    """Least previous area, in pixels, of an object that is worth recovering."""
    recovery_share: float = 0.3
    """Below this share of its previous area an object is recovered."""
    recovery_iou: float = 0.2
    """Least IoU (exclusive) of a recovered region with the object's previous mask."""


@dataclass(frozen=True)
class DefaultParams:
    """Parameters of our own filter; :mod:`segspn.craf.default` explains the rules they belong to.

    Every area is relative to the object's own reference area, every distance to its square root,
    so that the same numbers serve any resolution and object size.
    """

    threshold: float = 0.5
    """Merge threshold: only pixels whose best score reaches it are labelled. 0..1."""
    support: float = 0.05
    """Support rule: least overlap with the object's last mask, as a share of the smaller one."""
    coverage: float = 0.25
    """Coverage rule: share of a region on another object's last mask that makes it that one's."""
    complete: float = 0.5
    """Coverage rule: share of its area that an object must have elsewhere to give a region up."""
    reach: float = 0.75
    """Reach rule: farthest gap to the last mask."""
    attached: float = 0.1
    """Attachment rule: farthest gap to the supported regions of the same frame."""
    growth: float = 1.5
    """Reach rule: unsupported regions may not lift the object's area above this factor."""
    emerge: float = 1.5
    """Reach rule: farthest gap to the last mask, as a share of the object's radius, of what comes out on
    the other side of what hides most of the object."""
    extent: float = 1.0
    """Body rule: how far around its body an object goes, as a share of how far it was seen to go."""
    whole: float = 0.85
    """Motion rule: share of its radius that an object's body must show for its islands to be judged."""
    ground: float = 0.5
    """Motion rule: share of the ground that must move as an island does for that to be ground."""
    redetect_score: float = 0.75
    """Return rule: least mean score (0..1) of the region with which a lost object returns."""
    redetect_share: float = 0.05
    """Return rule: least area of that region."""
    wander: float = 2.0
    """Return rule: farthest gap to the last mask, for each frame since the object was seen."""
    likeness: float = 0.84
    """Cut rule: least median likeness (cosine) of the region with which an object returns."""
    area_rate: float = 0.2
    """How fast the reference area follows the area of the accepted mask, per frame. 0..1."""
    forgotten: float = 0.05
    """Share of its full area that an object is no longer thought to have, per frame. 0..1."""
    hidden_rate: float = 0.05
    """How fast it shrinks while the mask touches another object's, which may hide the rest. 0..1."""


CrafParams = PaperParams | ReleaseParams | DefaultParams

PARAMETER_SETS: dict[str, CrafParams] = {
    "default": DefaultParams(),
    "release": ReleaseParams(),
    "paper": PaperParams(),
}
"""The published values by the name a preset or the command line uses."""
