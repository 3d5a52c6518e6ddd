"""Our own filter: gentle with good scores, firm with islands that cannot be the object's.

It looks at *islands*: 8-connected regions of the pixels an object would win in the merge. So two
objects that touch or whose scores mix are told apart by their scores first, and each pixel belongs
to one island. Every object has a memory: the mask in which it was last seen, the island in it
that was its body, a slowly following reference area A, its full area F, its radius in units of the
area's root, and the number of frames it has been missed since. A shrinks hardly (``hidden_rate``)
while the object touches another one, which may hide the rest of it; F, the largest that A has been,
less (``forgotten``), as anything may. While no more than ``complete`` of F is in view, i is hidden.
For each island of object i:

1. Support: it overlaps i's last mask by at least ``support`` of the smaller of the two. Kept, so
   an object split by an occluder keeps its parts.
2. Coverage: without support, and more than ``coverage`` of it on the last mask of an object j that
   looks like i. If i has ``complete`` of A in supported islands it does not need this one: j takes
   island and score. That undoes scores which swap between alike objects. (Where j looks otherwise
   it has moved on, and i has come out from behind it.)
3. Attachment: without support, but at most ``attached * sqrt(A)`` from a supported island of this
   frame: a part that a thin gap cuts off. Kept.
4. Reach: without support, but no farther than ``reach * sqrt(A)`` from i's last mask; or attached,
   as in rule 3, to the last mask of an object that looks otherwise and touched i's, from behind
   which it may come out, however large that is. Such islands are kept, nearest first, while i's
   area stays within ``growth`` times A, or times the supported area where i has outgrown A. There
   is no least size: thin objects are full of tiny true islands. What hides i may let it out on its
   other side: an island with which i could return (score and area of rule 6, likeness of rule 9) may
   then be ``emerge`` times i's radius away, and F takes A's place, for it in the body rule as well.
5. Anything else is a false island: i's score there becomes zero, and the next best object, if any,
   is judged for the place.
6. Return: an object that was missed in the previous frame, or none of whose islands has support,
   comes back with one island only: the largest with a mean score of at least ``redetect_score``,
   with ``redetect_share`` of A and within ``wander * sqrt(F) * (1 + missed)``, as it may have moved
   on unseen. An island that the coverage rule sees on another object is no return.
7. Body: of all that are kept the body is the island that overlaps the last body most. The object
   goes no farther than its radius, and the body lies anywhere in it, if something hides the rest:
   so an island that begins farther from the body's centre than ``extent`` times the diameter less
   the body's own radius is false after all. (What lies on things that look alike would otherwise be
   handed down from frame to frame, ever farther away.) But what touches another object may come out
   from behind it.
8. Motion: where the optical flow is known, a kept island that moves unlike the body, but as more than
   ``ground`` of everything without a label does, is false too: it lies on the ground, however alike.
   Not while part of the body is hidden: its farthest pixel is then nearer than ``whole`` of the radius,
   and what is seen between two bars seems to move as these do. Nor where it touches another object.

9. Cut: when the next frame shows another scene (``scatter``), no object is where it was. Until it is
   seen again rules 1-6 do not hold, and an object returns from anywhere, as by rule 6, but only with
   an island whose median likeness to what is remembered of it is at least ``likeness``.

Scores of kept islands, and scores below the threshold, stay as they are. An object that has never
been annotated has no memory and gets no pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np

from segspn.craf.base import Craf, CrafResult, Pairs, Sight, State, as_unit
from segspn.craf.body import find_body, from_centre, left_behind, touches, touching
from segspn.craf.merge import merge
from segspn.craf.params import DefaultParams
from segspn.craf.regions import Regions
from segspn.errors import InputError
from segspn.heap import array_apart

_Dropped = tuple[int, np.ndarray, np.ndarray]  # object, where it loses its score, and where to nobody
_Given = tuple[int, np.ndarray, np.ndarray]  # object, where it gets scores, and these


class DefaultCraf(Craf):
    """Rules 1-9 of this module. State beside the previous labels, with one row per object:

    ``seen`` bool (N, H, W), the last mask, and ``body``, of it the body; ``area`` float64 (N,), the
    reference area in pixels, 0 for never seen, and ``full`` float64 (N,), the full one; ``radius``
    float64 (N,), of the annotated mask, from the body's centre to the farthest pixel, in units of the
    area's root; ``missed`` int64 (N,), frames since the object was last seen, 0 for just now;
    ``scattered`` bool (N,), whether there was a cut since.
    """

    def __init__(self, params: DefaultParams, ids: Sequence[int]) -> None:
        self.params = params
        self._seen: np.ndarray | None = None
        self._body = np.zeros((0, 0, 0), bool)
        self._area, self._full, self._radius = np.zeros(0), np.zeros(0), np.zeros(0)
        self._missed, self._scattered = np.zeros(0, np.int64), np.zeros(0, bool)
        super().__init__(ids)

    def state(self) -> State:
        state = super().state() | {
            "area": self._area.copy(),
            "full": self._full.copy(),
            "radius": self._radius.copy(),
            "missed": self._missed.copy(),
            "scattered": self._scattered.copy(),
        }
        if self._seen is not None:
            state |= {"seen": array_apart(self._seen), "body": array_apart(self._body)}
        return state

    def restore(self, state: State) -> None:
        rows = {"area", "full", "radius", "missed", "scattered"}
        if not rows <= state.keys() or ("seen" in state) != ("body" in state):
            raise InputError("the saved filter is of another parameter set: resume with its preset")
        super().restore(state)
        self._area = np.array(state["area"], np.float64)
        self._full = np.array(state["full"], np.float64)
        self._radius = np.array(state["radius"], np.float64)
        self._missed = np.array(state["missed"], np.int64)
        self._scattered = np.array(state["scattered"], bool)
        self._seen = np.array(state["seen"], bool) if "seen" in state else None
        self._body = np.array(state.get("body", np.zeros((0, 0, 0))), bool)

    def _grown(self, before: tuple[int, ...]) -> None:
        old = [self.ids.index(i) for i in before]

        def spread(values: np.ndarray) -> np.ndarray:
            out = np.zeros((len(self.ids), *values.shape[1:]), values.dtype)
            out[old] = values
            return out

        self._area, self._full = spread(self._area), spread(self._full)
        self._radius = spread(self._radius)
        self._missed, self._scattered = spread(self._missed), spread(self._scattered)
        if self._seen is not None:
            self._seen, self._body = spread(self._seen), spread(self._body)

    def _shrunk(self, position: int) -> None:
        self._area = np.delete(self._area, position)
        self._full = np.delete(self._full, position)
        self._radius = np.delete(self._radius, position)
        self._missed = np.delete(self._missed, position)
        self._scattered = np.delete(self._scattered, position)
        if self._seen is not None:
            self._seen = np.delete(self._seen, position, 0)
            self._body = np.delete(self._body, position, 0)

    def _annotated(self, labels: np.ndarray, known: Collection[int]) -> None:
        if self._seen is None:
            self._seen = np.zeros((len(self.ids), *labels.shape), bool)
            self._body = self._seen.copy()
        told = [i in known or not self._area[n] for n, i in enumerate(self.ids)]
        self._remember(labels, told)
        for n, object_id in enumerate(self.ids):
            islands = Regions(labels == object_id)
            if not len(islands):
                continue
            if told[n]:
                body = int(np.argmax(islands.areas))
                farthest = from_centre(islands, body)[islands.labels > 0].max()
                self._radius[n] = farthest / np.sqrt(self._area[n])
            else:
                body = find_body(islands, np.ones(len(islands), bool), self._body[n])
            self._keep_body(n, islands, body)

    def _remember(self, labels: np.ndarray, told: Sequence[bool]) -> None:
        """Take the accepted int32 ``labels`` into the memory; a mask that a person has ``told`` sets the
        reference area at once."""
        assert self._seen is not None  # start() comes first
        for n, object_id in enumerate(self.ids):
            mask = labels == object_id
            area = int(np.count_nonzero(mask))
            if area:
                rate = 1.0 if told[n] else self._area_rate(n, mask, area, labels)
                self._seen[n] = mask
                self._area[n] += rate * (area - self._area[n])
                full = 0.0 if told[n] else (1 - self.params.forgotten) * self._full[n]
                self._full[n] = max(self._area[n], full)
                self._missed[n], self._scattered[n] = 0, False
            elif self._area[n]:
                self._missed[n] += 1

    def _area_rate(self, n: int, mask: np.ndarray, area: int, labels: np.ndarray) -> float:
        """How fast the reference area of object n follows that of its ``mask``, bool (H, W)."""
        p = self.params
        shrinks = area < self._area[n]
        return p.hidden_rate if shrinks and touches(mask, labels) else p.area_rate

    def scatter(self) -> None:
        self._scattered[:] = True

    def _filter(
        self,
        scores: np.ndarray,
        previous: np.ndarray,
        foreground: np.ndarray | None,
        sight: Sight,
    ) -> CrafResult:
        filtered = scores if scores.dtype == np.float32 else as_unit(scores)
        # Dropping an island may hand its place to the runner-up, whose island there is judged in
        # turn. Each round takes one object out of every place that is still open, so N suffice.
        labels = merge(filtered, self.ids, self.params.threshold, foreground)
        for _ in self.ids:
            dropped, given = self._judge(filtered, labels, sight)
            if not dropped:
                break
            if filtered is scores:  # which are the caller's; mostly they stay as they are
                filtered = as_unit(scores)
            contested = self._apply(filtered, dropped, given)
            labels = merge(filtered, self.ids, self.params.threshold, foreground)
            if not contested:
                break
        self._remember(labels, [False] * len(self.ids))
        return CrafResult(filtered, labels)

    def _judge(
        self, filtered: np.ndarray, labels: np.ndarray, sight: Sight
    ) -> tuple[list[_Dropped], list[_Given]]:
        """What the rules say of every object's islands."""
        dropped: list[_Dropped] = []
        given: list[_Given] = []
        for n, object_id in enumerate(self.ids):
            islands = Regions(labels == object_id)
            if not len(islands):
                continue
            owner = self._owners(n, islands, filtered[n], sight)
            self._attend(n, islands, owner, labels, filtered[n], sight)
            if (owner == n).all():
                continue
            for other in set(owner.tolist()) - {-1, n}:
                place = islands.mask(owner == other)
                given.append((other, place, filtered[n][place]))
            dropped.append((n, islands.mask(owner != n), islands.mask(owner == -1)))
        return dropped, given

    def _apply(self, filtered: np.ndarray, dropped: list[_Dropped], given: list[_Given]) -> bool:
        """Change the scores in place; whether a runner-up may win a place that came free.

        Only when all are judged, so that what an object is given does not bear on its own islands.
        """
        for n, places, _ in dropped:
            filtered[n][places] = 0
        for other, place, score in given:
            filtered[other][place] = np.maximum(filtered[other][place], score)
        return any(
            bool((score[freed] >= self.params.threshold).any())
            for _, _, freed in dropped
            for score in filtered
        )

    def _owners(self, n: int, islands: Regions, score: np.ndarray, sight: Sight) -> np.ndarray:
        """Whose each island of object n is: int (M,), an object's index, or -1 for nobody's."""
        assert self._seen is not None
        p, missed = self.params, int(self._missed[n])
        area, full = self._area[n], self._full[n]
        owner = np.full(len(islands), -1)
        if not area:
            return owner
        if self._scattered[n]:
            return _largest(n, islands, self._like_itself(n, islands, score, sight))
        own = self._seen[n]
        smaller = np.minimum(islands.areas, np.count_nonzero(own))
        shared = islands.count(own)
        supported = shared >= np.maximum(p.support * smaller, 1)
        if not missed and supported.all():
            owner[:] = n
            return owner
        covering = self._covering(n, islands, sight.alike)
        covering[supported] = -1
        gaps = _gaps(islands, own, shared > 0) / np.sqrt(area)
        if missed or not supported.any():
            near = (covering < 0) & (gaps <= np.sqrt(full / area) * p.wander * (1 + missed))
            return _largest(n, islands, self._fit(n, islands, score) & near)
        owner[supported] = n
        total = islands.areas[supported].sum()
        if total >= p.complete * area:
            owner[covering >= 0] = covering[covering >= 0]
        if not supported.all():
            body = islands.mask(supported)
            owner[(owner == -1) & (_gaps(islands, body, supported) <= p.attached * np.sqrt(area))] = n
            total = islands.areas[owner == n].sum()
        most = p.growth * max(area, total)
        far = (owner == -1) & (gaps > p.reach)
        if far.any():
            gaps[far & self._emerging(n, islands, sight.alike)] = p.reach
            known = self._known(n, islands, score, sight, total) & (covering < 0)
            if known.any():
                most = p.growth * full
                reached = gaps * np.sqrt(area / full) <= p.emerge * self._radius[n]
                gaps[far & known & reached] = p.reach
        near = (owner == -1) & (gaps <= p.reach)
        for m in np.argsort(gaps, kind="stable"):
            if near[m] and total + islands.areas[m] <= most:
                owner[m] = n
                total += islands.areas[m]
        return owner

    def _fit(self, n: int, islands: Regions, score: np.ndarray) -> np.ndarray:
        """With which islands object n may return, wherever they are: bool (M,)."""
        p = self.params
        sure: np.ndarray = islands.mean(score) >= p.redetect_score
        return sure & (islands.areas >= p.redetect_share * self._area[n])

    def _like_itself(self, n: int, islands: Regions, score: np.ndarray, sight: Sight) -> np.ndarray:
        """With which of these the object is like what is remembered of it: bool (M,)."""
        return self._fit(n, islands, score) & (_likeness(n, islands, sight) >= self.params.likeness)

    def _known(
        self, n: int, islands: Regions, score: np.ndarray, sight: Sight, total: float
    ) -> np.ndarray:
        """Which islands may be what has come out of hiding, of object n of which ``total`` pixels are in
        view: bool (M,)."""
        if sight.likeness is None or total > self.params.complete * self._full[n]:
            return np.zeros(len(islands), bool)
        return self._like_itself(n, islands, score, sight)

    def _attend(
        self,
        n: int,
        islands: Regions,
        owner: np.ndarray,
        labels: np.ndarray,
        score: np.ndarray,
        sight: Sight,
    ) -> None:
        """Find the body among the islands that are object n's, and give up, in place, what is too far
        from it or does not move with it. ``labels`` int32 (H, W): of the frame so far."""
        own = owner == n
        if not own.any():
            return
        body = find_body(islands, own, self._body[n])
        self._keep_body(n, islands, body)
        own[body] = False
        if not own.any():
            return
        p = self.params
        distance = from_centre(islands, body)
        visible = distance[islands.labels == body + 1].max()
        whole, full = (
            self._radius[n] * np.sqrt(max(area[n], islands.areas[body]))
            for area in (self._area, self._full)
        )
        # With what is hidden the object has its radius, and the body lies anywhere in it.
        false = own & ~_within(p.extent * max(2 * whole - visible, visible), islands, distance)
        if false.any():
            known = self._known(n, islands, score, sight, islands.areas[owner == n].sum())
            false &= ~(known & _within(p.extent * max(2 * full - visible, visible), islands, distance))
        if sight.motion is not None and visible >= p.whole * whole:
            false |= left_behind(islands, body, own & ~false, labels, sight.motion, p.ground)
        if false.any():
            others = (labels > 0) & (labels != self.ids[n])
            owner[false & ~touching(islands, others)] = -1

    def _keep_body(self, n: int, islands: Regions, body: int) -> None:
        self._body[n] = False
        np.equal(islands.labels, body + 1, out=self._body[n][islands.window])

    def _covering(self, n: int, islands: Regions, alike: Pairs | None) -> np.ndarray:
        """The other object that object n may be taken for and on whose last mask most of each island
        lies: int (M,), -1 for none."""
        most = self.params.coverage * islands.areas
        covering = np.full(len(islands), -1)
        for other, mask, confused in self._others(n, alike):
            if confused:
                shared = islands.count(mask)
                covering[shared > most] = other
                most = np.maximum(most, shared)
        return covering

    def _emerging(self, n: int, islands: Regions, alike: Pairs | None) -> np.ndarray:
        """Which islands are attached to what looks otherwise than object n, touched it and may have
        hidden them: bool (M,)."""
        assert self._seen is not None
        emerging = np.zeros(len(islands), bool)
        for _, mask, confused in self._others(n, alike):
            if not confused and touches(self._seen[n], mask):
                gaps = _gaps(islands, mask, islands.count(mask) > 0)
                emerging |= gaps <= self.params.attached * np.sqrt(self._area[n])
        return emerging

    def _others(self, n: int, alike: Pairs | None) -> Iterator[tuple[int, np.ndarray, bool]]:
        """The other objects that were in sight a frame ago: each one's index, its mask, and whether
        object n may be taken for it."""
        assert self._seen is not None
        for other, mask in enumerate(self._seen):
            # What hides a missed object may well lie where that was last seen.
            if other == n or not self._area[other] or self._missed[other] or self._scattered[other]:
                continue
            pair = (self.ids[min(n, other)], self.ids[max(n, other)])
            yield other, mask, alike is None or pair in alike


def _largest(n: int, islands: Regions, fit: np.ndarray) -> np.ndarray:
    """Object n has the largest island of those that ``fit``, bool (M,), if any: owners int (M,)."""
    owner = np.full(len(islands), -1)
    if fit.any():
        owner[np.argmax(np.where(fit, islands.areas, 0))] = n
    return owner


def _within(radius: float, islands: Regions, distance: np.ndarray) -> np.ndarray:
    """Which islands begin within the ``radius``, by the ``distance`` of each pixel: bool (M,)."""
    near = np.zeros(len(islands) + 1, bool)
    near[islands.labels[distance <= radius]] = True
    return near[1:]


def _likeness(n: int, islands: Regions, sight: Sight) -> np.ndarray:
    """The median likeness of each island to object n: float (M,); 1 where it is not known."""
    found = np.ones(len(islands))
    if sight.likeness is not None:
        cells = islands.at(*islands.grid(sight.likeness.shape[1:]))
        for m in range(len(islands)):
            values = sight.likeness[n][cells == m + 1]
            if len(values):
                found[m] = np.median(values)
    return found


def _gaps(islands: Regions, mask: np.ndarray, touching: np.ndarray) -> np.ndarray:
    """Smallest distance in pixels from each island to ``mask``, which is not empty: float (M,).

    ``touching``, bool (M,), tells the islands that overlap the mask: their gap is 0.
    """
    gaps = np.where(touching, 0.0, np.inf)
    if touching.all():
        return gaps
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows, columns = islands.window
    # Only the box around the islands and the mask matters.
    top, left = min(y, rows.start), min(x, columns.start)
    box = mask[top : max(y + height, rows.stop), left : max(x + width, columns.stop)]
    distance = cv2.distanceTransform((~box).astype(np.uint8), cv2.DIST_L2, 3)
    inside = np.append(False, ~touching)[islands.labels]
    distance = distance[rows.start - top : rows.stop - top, columns.start - left :]
    distance = distance[:, : inside.shape[1]]
    np.minimum.at(gaps, islands.labels[inside] - 1, distance[inside].astype(float))
    return gaps
