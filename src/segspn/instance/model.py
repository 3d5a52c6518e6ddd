"""Stage 2, instance recognition: classifiers, appearance memory and decoder make score maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone.frame import Frame
from segspn.backbone.place import Place, covered
from segspn.backbone.precision import Lower
from segspn.foreground.augment import Samples
from segspn.foreground.model import (
    annotated_keys,
    embed,
    embed_samples,
    matching_keys,
    parents_foreground,
)
from segspn.foreground.parent import SUB, ParentNet
from segspn.heap import apart
from segspn.instance.cut import Scene, frame_layout, layout
from segspn.instance.decoder import Decoder, clues, fuse, highest_other
from segspn.instance.extents import Extents
from segspn.instance.learner import (
    CELL,
    Learner,
    LearnerConfig,
    Moments,
    classify,
    describe,
    hard_moments,
    moments_of_frame,
)
from segspn.instance.memory import Memory, MemoryConfig, Votes
from segspn.instance.motion import carry, flow, grey
from segspn.instance.rivals import Rivals, alikeness, members_of, pairs_alike
from segspn.instance.stage import InstanceStage, OnObjectStep
from segspn.instance.views import View
from segspn.instance.whereabouts import Whereabouts
from segspn.threads import side_by_side

_FINE = CELL // SUB  # pixels of a share's side
_NOWHERE = -10.0  # log-odds of an object where it cannot be


@dataclass(frozen=True)
class InstanceConfig:
    """``tune=False`` skips first-frame fine-tuning, the paper's last row of Table 2: the memory's votes
    are all there is. ``reach``: how far at least, in pixels, objects may have moved since a frame ago.
    ``views``: how each frame is looked at; the results of several are averaged.
    """

    tune: bool = True
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    reach: int = 48
    views: tuple[View, ...] = (View(),)

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("views needs one at least")


class HeadInstances(InstanceStage):
    """A classifier for each object and the memory, over the frozen backbone's embedding, read by the
    decoder (stride 4)."""

    def __init__(
        self,
        backbone: torch.nn.Module,
        parent: ParentNet,
        decoder: Decoder,
        config: InstanceConfig,
        count: int,
        lower: Lower = nullcontext,
    ) -> None:
        """``lower`` makes the context in which the decoder runs, an autocast for instance."""
        self.config, self.lower = config, lower
        self.backbone, self.parent, self.decoder = backbone, parent, decoder
        self.learner = Learner(config.learner)
        self.memory = Memory(config.memory, float(parent.scale))
        self._sure: Tensor | None = None
        self._scores: Tensor | None = None
        self._votes: Tensor | None = None
        self._match: Tensor | None = None
        self._motion: Tensor | None = None

    def fit(self, samples: Samples, seed: int, on_step: OnObjectStep | None = None) -> None:
        """In closed form: there is no chance in it, and one step."""
        embeddings, shares = embed_samples(samples, self.backbone, self.parent)
        shown = slice(len(samples.shots))  # the annotated frames come before their copies
        keys = annotated_keys(samples, self.backbone, self.parent)
        self._remember(samples, keys, shares[shown])
        known = samples.known()[shown].to(shares)[..., None, None]
        self._alike = alikeness(keys, shares[shown] * known)
        self.last, self._sure = shares[len(samples.shots) - 1], None
        self._extents, self._where = Extents.of(self.last), Whereabouts.of(self.last)
        self._grey = grey(Frame(samples.shots[-1].frame, samples.device))
        self._scene = Scene(layout(keys[-1]))
        newest = samples.shots[-1].known
        make = partial(known_moments, describe(embeddings), shares, samples.known())
        found = hard_moments(make, self.config.learner.ridge)
        self.learner.begin(found, [i in newest for i in samples.ids])
        if on_step is not None:
            on_step(tuple(range(len(samples.ids))), 1)

    def arrange(self, order: Sequence[int | None]) -> None:
        self.learner.arrange(order)
        self.memory.arrange(order)
        new = self.last.new_zeros(self.last.shape[1:])
        self.last = torch.stack([new if k is None else self.last[k] for k in order])
        kept = [0 if k is None else k for k in order]  # `fit` follows where one is new
        self._alike = self._alike[kept][:, kept]
        self._extents.arrange(order)
        self._where.arrange(order)
        self._sure = None

    def _remember(self, samples: Samples, keys: Tensor, shares: Tensor) -> None:
        """Put all annotated frames into the memory, in place of those it has.

        What one of them, or a recent frame, does not tell of an object is filled in with what the
        frames vote for that do tell: to count as "not there" would be a lie. So is what recent frames
        tell of an object that has just been corrected: it went wrong in them.
        """
        shots = samples.shots
        shares = shares.clone()
        everywhere = torch.ones(keys.shape[-2:], dtype=torch.bool, device=keys.device)
        for n, i in enumerate(samples.ids):
            told = [k for k, shot in enumerate(shots) if i in shot.known]
            votes = Memory(self.config.memory, float(self.parent.scale))
            votes.annotate(keys[told], shares[told, n : n + 1], told)
            for k, shot in enumerate(shots):
                if i not in shot.known | shot.found:
                    shares[k, n] = votes.read(keys[k], everywhere)[0]
            self.memory.fill(n, partial(votes.read, region=everywhere), afresh=i in shots[-1].known)
        self.memory.annotate(keys, shares, [shot.index for shot in shots])

    def follows(self, frame: Frame) -> bool:
        keys = matching_keys(frame, self.backbone, self.parent)
        return self._scene.goes_on(frame_layout(frame, keys))

    def scatter(self) -> None:
        self.last = torch.zeros_like(self.last)
        self._extents, self._where = Extents.of(self.last), Whereabouts.of(self.last)

    def predict(self, frame: Frame) -> Tensor:
        """Score maps ``(N, Hp / 4, Wp / 4)`` in 0..1; objects compete."""
        embedding = embed(frame, self.backbone, self.parent)
        way = flow(self._grey, grey(frame))
        self._motion = way
        last = carry(self.last[None], way[None])
        scores = None
        if self.config.tune:
            scores = self.learner.scores(self._inputs(frame), embedding.shape[-2:])
        claims = None if scores is None else scores[1][0]
        places = self._where.places(last[0], self.config.reach, claims)
        keys = matching_keys(frame, self.backbone, self.parent)
        votes = self.memory.votes(keys, covered(places, keys, CELL)).batched()
        self._votes, self._match = votes.shares[:, 0], votes.match[:, 0]
        if scores is None:
            return compete(torch.logit(self._votes[2], 1e-4)).sigmoid()
        steady, learning = scores
        pairs = pairs_alike(self._alike)
        members = members_of(pairs)
        self._extents.follow(last[0], way, members)
        rivals = Rivals(last[0], self._extents.form, self._extents.unlike(way, members), pairs)
        votes = Votes(rivals.divide(votes.shares), votes.match)
        rooms = [place.grown(frame.image.shape[-2:]) for place in places]
        whole = Place.joined(rooms).grown(frame.image.shape[-2:])
        known = clues(
            Votes(whole.cut(votes.shares, _FINE), whole.cut(votes.match, CELL)),
            whole.cut(steady, CELL),
            whole.cut(learning, CELL),
            whole.cut(last, _FINE),
            whole.cut(parents_foreground(frame, self.backbone, self.parent), _FINE),
        )
        logits = torch.full_like(last, _NOWHERE)
        # Each object is looked for where it can be, and nothing elsewhere can be taken for it.
        with self.lower():
            looked = self.decoder.look(whole.cut(embedding, CELL))

        def decode(n: int) -> None:
            place, room, one = places[n], rooms[n], slice(n, n + 1)
            inner = room.within(whole)
            with self.lower():
                decoded = self.decoder.decode(looked.cut(inner), inner.cut(known[:, one], CELL))[1]
            decoded = place.within(room).cut(decoded, _FINE).float()
            said = place.cut(votes.shares[2, :, one], _FINE)
            scores = place.cut(learning[:, one], CELL)
            place.cut(logits[:, one], _FINE)[:] = self.log_odds(decoded, said, scores)

        order = sorted(range(len(rooms)), key=lambda n: -rooms[n].area)
        side_by_side([partial(decode, n) for n in order], last.device.type)
        logits = compete(rivals.settle(logits[0])[None])
        self._sure = certainty(logits)
        self._scores = learning
        return logits[0].sigmoid()

    def log_odds(self, decoded: Tensor, shares: Tensor, learning: Tensor) -> Tensor:
        """What decoder, memory and classifier say together; see `fuse`."""
        return fuse(decoded, shares, learning)

    def votes(self, frame: Frame) -> Tensor | None:
        return None if self._votes is None else self._votes[2]

    def alike(self) -> list[tuple[int, int]]:
        return pairs_alike(self._alike)

    def motion(self, frame: Frame) -> Tensor | None:
        return self._motion

    def likeness(self, frame: Frame) -> Tensor | None:
        if self._match is None:
            return None
        best = torch.maximum(self._match[0], self._match[2])  # among annotated and recent frames
        return F.interpolate(best[None], scale_factor=SUB)[0]

    def accept(self, frame: Frame, shares: Tensor, index: int) -> None:
        keys = matching_keys(frame, self.backbone, self.parent)
        seen = shares.amax((1, 2)) > 0
        if bool(seen.any()):  # else it tells of nothing, and what does is kept
            self.memory.add(keys, self._told(shares, seen), index, annotated=False)
        if self._sure is not None:
            inputs = self._inputs(frame)
            found = moments_of_frame(inputs, shares[None], self._sure, self._scores)
            self.learner.update(found, seen)
        self.last, self._grey = apart(shares), apart(grey(frame))
        self._scene = self._scene.followed_by(apart(frame_layout(frame, keys)))
        self._extents.accept(shares, pairs_alike(self._alike))
        self._where.accept(shares)
        self._sure = self._scores = self._votes = self._match = self._motion = None

    def _told(self, shares: Tensor, seen: Tensor) -> Tensor:
        """What a frame's ``shares`` are remembered to tell of each object.

        Of one that was not seen not that it is nowhere, or it would not be known when it comes back:
        nothing but what the annotated frames vote for, where no other object is.
        """
        if self._votes is None or bool(seen.all()):
            return shares
        free = 1 - shares.amax(0)
        return torch.where(seen[:, None, None], shares, torch.minimum(self._votes[0], free))

    def _inputs(self, frame: Frame) -> Tensor:
        """The classifier's inputs of a frame, computed once per frame."""
        embedding = embed(frame, self.backbone, self.parent)
        made: Tensor = frame.once("inputs", lambda: describe(embedding))
        return made

    def state(self) -> dict[str, Tensor]:
        out = {f"learner.{k}": v for k, v in self.learner.state().items()}
        out |= {f"memory.{k}": v for k, v in self.memory.state().items()}
        out |= {f"memory.extents.{k}": v for k, v in self._extents.state().items()}
        out |= {f"memory.scene.{k}": v for k, v in self._scene.state().items()}
        return out | {
            "memory.sides": self._where.state(),
            "memory.last": self.last,
            "memory.grey": self._grey,
            "memory.alike": self._alike,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learner.restore({k[8:]: v for k, v in state.items() if k.startswith("learner.")})
        self.memory.restore({k[7:]: v for k, v in state.items() if k.startswith("memory.")})
        self.last, self._grey = state["memory.last"], state["memory.grey"]
        self._alike = state["memory.alike"]
        extents, scene = (
            {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            for start in ("memory.extents.", "memory.scene.")
        )
        self._where = Whereabouts(state["memory.sides"].cpu().numpy().copy())
        self._extents, self._scene = Extents.restored(extents), Scene.restored(scene)


def compete(logits: Tensor) -> Tensor:
    """Soft aggregation: each object's log-odds against the best of the others and background.

    Log-odds ``(..., N, h, w)`` in and out; one object's stay as they are. Where two objects both claim a
    pixel, the weaker claim drops by what the stronger exceeds it (Oh et al., STM, eq. 6, in spirit; with
    a maximum instead of a sum, so that ten objects do not shrink each other).
    """
    return logits - highest_other(logits, 0.0, dim=-3).clamp(min=0.0)


def certainty(logits: Tensor) -> Tensor:
    """How sure log-odds ``(B, N, 2h, 2w)`` are, ``(B, N, h, w)`` in 0..1: what a frame may teach."""
    return F.avg_pool2d((logits.sigmoid() - 0.5).abs().mul(2), SUB)


def known_moments(inputs: Tensor, shares: Tensor, known: Tensor, classifier: Tensor | None) -> Moments:
    """Moments of annotated frames and their copies, ``(1, N, ...)``.

    ``inputs`` ``(M, h w, D)``; ``shares`` ``(M, N, 2h, 2w)``; ``known``: bool ``(M, N)``, whether copy m
    tells the truth of object n; ``classifier``: what is easy for it counts little.
    """
    weight = known.to(shares) / known.sum(0).clamp(min=1)
    size = [n // SUB for n in shares.shape[-2:]]
    total: Moments | None = None
    for m in range(len(inputs)):  # one at a time: copies of large frames need not be held at once
        one = slice(m, m + 1)
        scores = None if classifier is None else classify(inputs[one], classifier, size)
        found = moments_of_frame(inputs[one], shares[one], None, scores)
        found = found.times(weight[m][None, :, None, None])
        total = found if total is None else total.plus(found)
    assert total is not None
    return total
