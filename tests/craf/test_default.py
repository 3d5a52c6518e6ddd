import numpy as np
import pytest

from segspn.craf import DefaultParams, Sight, build_craf

H, W = 40, 80


def box(*boxes, value=1):
    """A map with boxes (top, left, height, width)."""
    out = np.zeros((H, W), np.float32)
    for y, x, h, w in boxes:
        out[y : y + h, x : x + w] = value
    return out


def start(*masks, params="default"):
    craf = build_craf(params, tuple(range(1, len(masks) + 1)))
    labels = np.zeros((H, W), np.int32)
    for n, mask in enumerate(masks):
        labels[mask > 0] = n + 1
    craf.start(labels)
    return craf


def step(craf, *scores):
    return craf.step(np.stack(scores)).labels


BODY = (10, 10, 10, 10)  # area 100: reach is 0.75 * 10 = 7.5 pixels
ANYWHERE = DefaultParams(extent=9)  # the rule of the body away, for tests of others


def test_good_scores_pass_untouched():
    craf = start(box(BODY))
    score = box((10, 12, 10, 10), value=0.8)
    score += box((8, 8, 20, 20), value=0.15)
    result = craf.step(score[None])
    assert np.array_equal(result.scores[0], score)
    assert np.array_equal(result.labels, score > 0.5)


def test_far_island_is_dropped_and_parts_split_by_an_occluder_stay():
    craf = start(box((10, 10, 10, 20)))
    parts = box((10, 10, 10, 8), (10, 22, 10, 8), value=0.7)
    labels = step(craf, parts + box((10, 60, 10, 8), value=0.9))
    assert np.array_equal(labels, parts > 0)


@pytest.mark.parametrize(("gap", "kept"), [(7, True), (9, False)])
def test_unsupported_island_is_kept_within_reach(gap, kept):
    craf = start(box(BODY), params=ANYWHERE)
    island = (12, 20 + gap - 1, 2, 2)  # `gap` pixels from the mask's last column
    labels = step(craf, box(BODY, island))
    assert labels[12, 20 + gap] == kept
    assert labels[12, 12] == 1


HIDDEN, SCREEN = (10, 5, 10, 10), (6, 15, 18, 20)  # the second touches the first


@pytest.mark.parametrize(
    ("alike", "screen", "island", "kept"),
    [
        ([], SCREEN, (10, 35, 10, 3), True),
        ([], SCREEN, (10, 37, 10, 3), False),  # beside what may hide it, not attached to it
        ([], SCREEN, (10, 35, 18, 3), False),  # more than the object may grow
        ([], (6, 18, 18, 17), (10, 35, 10, 3), False),  # what did not touch the object hides nothing
        ([(1, 2)], SCREEN, (10, 35, 10, 3), False),
        (None, SCREEN, (10, 35, 10, 3), False),
    ],
)
def test_object_may_come_out_on_the_other_side_of_what_hides_it(alike, screen, island, kept):
    craf = start(box(HIDDEN), box(screen))
    scores = np.stack([box(HIDDEN, island, value=0.8), box(screen, value=0.9)])
    labels = craf.step(scores, sight=Sight(alike=alike)).labels
    assert (labels[box(island) > 0] == 1).all() == kept
    assert (labels[box(HIDDEN) > 0] == 1).all() and (labels[box(screen) > 0] == 2).all()


def test_unsupported_islands_may_not_grow_the_object_too_far():
    craf = start(box(BODY), params=ANYWHERE)
    near, farther = (10, 22, 10, 1), (6, 24, 16, 3)  # 100 + 10 + 48 > 1.5 * 100
    labels = step(craf, box(BODY, near, farther))
    assert np.array_equal(labels, box(BODY, near) > 0)
    craf = start(box(BODY), params=DefaultParams(growth=1.6, extent=9))
    assert np.array_equal(step(craf, box(BODY, near, farther)), box(BODY, near, farther) > 0)


def test_island_on_another_object_is_handed_over_with_its_score():
    a, b = (10, 5, 10, 10), (10, 50, 10, 10)
    craf = start(box(a), box(b))
    legs, top = (16, 5, 4, 10), (10, 5, 5, 10)
    result = craf.step(np.stack([box(legs, value=0.8), box(b, top, value=0.9)]))
    want = (box(legs, top) > 0) + 2 * (box(b) > 0)
    assert np.array_equal(result.labels, want)
    assert result.scores[0, 11, 6] == np.float32(0.9)
    assert result.scores[1, 11, 6] == 0


def test_nothing_is_handed_over_between_objects_that_differ():
    # Object 2 was where 1 comes out from behind it.
    whole, seen, cover = (10, 4, 10, 20), (10, 4, 10, 10), (10, 14, 10, 20)
    away, comes_out = (10, 28, 10, 20), (10, 15, 10, 8)
    for alike, kept in (([], True), ([(1, 2)], False), (None, False)):
        craf = start(box(whole))
        craf.add(2)
        craf.start((box(seen) + 2 * box(cover)).astype(np.int32), [2])
        scores = np.stack([box(seen, comes_out, value=0.9), box(away)])
        labels = craf.step(scores, sight=Sight(alike=alike)).labels
        assert (labels[box(seen) > 0] == 1).all()
        assert (labels[box(comes_out) > 0] == 1).all() == kept, alike


def test_lost_object_comes_back_where_another_was_unless_that_looks_alike():
    hidden_by, away, comes_out = (5, 30, 20, 20), (5, 52, 20, 20), (10, 40, 10, 10)
    for alike, back in (([], True), ([(2, 3)], True), ([(1, 2)], False), (None, False)):
        craf = start(box((10, 20, 10, 10)), box(hidden_by), box((36, 0, 4, 4)))
        step(craf, box(), box(hidden_by), box((36, 0, 4, 4)))
        scores = np.stack([box(comes_out), box(away), box((36, 0, 4, 4))])
        labels = craf.step(scores, sight=Sight(alike=alike)).labels
        assert (labels[box(comes_out) > 0] == 1).any() == back, alike


def test_object_that_has_nothing_else_does_not_give_its_island_away():
    # Object 2 is left with a tenth of its area: what lies on object 1 may be all there is of it.
    a, b = (10, 5, 10, 10), (10, 50, 10, 10)
    craf = start(box(a), box(b))
    result = craf.step(np.stack([box((16, 5, 4, 10)), box((10, 50, 1, 10), (10, 5, 5, 10))]))
    assert result.scores[0, 11, 6] == 0


def test_runner_up_is_judged_where_an_island_was_dropped():
    a, b, false = (10, 5, 10, 10), (10, 30, 10, 10), (30, 70, 5, 5)
    craf = start(box(a), box(b))
    one = box(a, value=0.9) + box(false, value=0.9)
    two = box(b, value=0.9) + box(false, value=0.7)
    assert np.array_equal(step(craf, one, two), (box(a) > 0) + 2 * (box(b) > 0))
    # where the second is at home the place is its own
    craf = start(box(a), box(false))
    two = box(false, value=0.7)
    assert np.array_equal(step(craf, one, two), (box(a) > 0) + 2 * (box(false) > 0))


def test_lost_object_returns_farther_away_the_longer_it_was_missed():
    craf = start(box(BODY))
    empty = box()
    away = box((10, 65, 6, 6))  # 46 pixels behind the mask's last column; it wanders 20 * (1 + missed)
    seen = [bool(step(craf, s).any()) for s in (empty, away, away)]
    assert seen == [False, False, True]


def test_lost_object_needs_score_and_size_to_return():
    faint, tiny, good = box(BODY, value=0.7), box((10, 10, 2, 2)), box((10, 10, 3, 2))
    craf = start(box(BODY))
    assert not step(craf, box()).any()
    assert not step(craf, faint).any()  # below 0.75
    assert not step(craf, tiny).any()  # 4 % of 100 pixels
    assert step(craf, good).sum() == 6
    # seen all the time, the faint one is fine
    assert step(start(box(BODY)), faint).sum() == 100


def test_returns_with_the_largest_island_only():
    craf = start(box(BODY))
    step(craf, box())
    assert np.array_equal(step(craf, box((10, 10, 4, 4), (16, 10, 4, 5))), box((16, 10, 4, 5)) > 0)


def test_reference_area_follows_the_object():
    craf = start(box(BODY))
    step(craf, box((10, 10, 10, 20)))
    assert craf.state()["area"].tolist() == [120.0]  # a fifth of the way from 100 to 200
    craf.start(box((10, 10, 5, 10)).astype(np.int32))
    assert craf.state()["area"].tolist() == [50.0]


@pytest.mark.parametrize(("gap", "area"), [(0, 97.5), (3, 97.5), (4, 90.0)])
def test_reference_area_hardly_shrinks_while_another_object_may_hide_the_rest(gap, area):
    half = (10, 10, 10, 5)
    craf = start(box(BODY), box((5, 40, 20, 20)))
    step(craf, box(half), box((5, 15 + gap - (gap > 0), 20, 20)))
    assert craf.state()["area"][0] == area
    # what has grown is not hidden
    grown = start(box(half), box((5, 40, 20, 20)))
    step(grown, box(BODY), box((5, 20, 20, 20)))
    assert grown.state()["area"][0] == 60.0


def test_object_without_annotation_gets_nothing():
    craf = build_craf("default", (1, 2))
    craf.start(box(BODY).astype(np.int32))
    labels = step(craf, box(BODY), box((30, 60, 8, 8)))
    assert np.array_equal(labels, box(BODY) > 0)


@pytest.mark.parametrize(("gap", "kept"), [(1, True), (3, False)])
def test_what_is_attached_to_the_object_stays_whatever_its_size(gap, kept):
    craf = start(box(BODY))
    part = (8, 20 + gap, 14, 14)  # larger than the body
    # one pixel of background between them is a gap of 2
    labels = step(craf, box((10, 10, 10, 10 + 1), part))
    assert (labels[15, 30] == 1) == kept
    assert labels[12, 12] == 1


def test_growth_counts_from_the_supported_area_when_the_object_outgrew_its_reference():
    craf = start(box(BODY))
    score = box((10, 10, 10, 20), (21, 10, 1, 3))  # the last touches nothing
    assert np.array_equal(step(craf, score), score > 0)


def test_supported_island_may_cover_another_object():
    craf = start(box(BODY), box((10, 20, 10, 10)))
    far = (30, 70, 2, 2)
    labels = step(craf, box((10, 13, 10, 10), far), box((10, 23, 10, 7)))
    assert np.array_equal(labels, (box((10, 13, 10, 10)) > 0) + 2 * (box((10, 23, 10, 7)) > 0))


def test_nothing_is_handed_to_an_object_that_is_missing():
    small = (10, 22, 10, 2)
    craf = start(box(BODY), box(small), params=ANYWHERE)
    step(craf, box(BODY), box())
    assert np.array_equal(step(craf, box(BODY, small), box()), box(BODY, small) > 0)


def test_island_is_given_up_when_it_has_moved_away_from_the_body():
    """What was part of it for a moment, or looked so, and supports itself from frame to frame."""
    craf = start(box((10, 10, 10, 19)))
    kept = []
    for x in range(28, 35):
        labels = step(craf, box((10, 10, 10, 17), (12, x, 6, 4)))
        assert (labels[10:20, 10:27] == 1).all()
        kept.append(bool(labels[14, x + 2]))
    # The radius was 10.1, that of the body is 9.2: within 10.9 pixels of its centre, 18.
    assert kept == [True, False, False, False, False, False, False]


@pytest.mark.parametrize("hidden", [8, 16])
def test_parts_within_the_extent_stay_however_much_is_hidden(hidden):
    craf = start(box((10, 10, 10, 40)))
    wide = (40 - hidden) // 2
    parts = box((10, 10, 10, wide), (10, 10 + wide + hidden, 10, wide), value=0.7)
    for _ in range(3):
        assert np.array_equal(step(craf, parts), parts > 0)


def test_body_is_the_island_that_was_it_and_not_the_largest():
    craf = start(box((15, 10, 10, 10)))
    step(craf, box((15, 10, 10, 10), (16, 20, 8, 5)))  # what is beside it touches it for a moment,
    apart = (12, 22, 16, 12)  # and is larger by itself
    step(craf, box((15, 6, 10, 10), apart))
    labels = step(craf, box((15, 2, 10, 10), apart))
    assert np.array_equal(labels, box((15, 2, 10, 10)) > 0)


def test_what_touches_another_object_may_come_out_from_behind_it():
    own, other = (10, 4, 10, 10), (10, 14, 10, 6)
    for there in (True, False):
        craf = start(box(own), box(other))
        for width in range(1, 6):
            coming = (10, 20, 10, width)
            labels = step(craf, box(own, coming), box(other) * there)
            assert (labels[box(own) > 0] == 1).all()
            kept = labels[box(coming) > 0] == 1
            assert kept.all() if there else not kept.any()


TALL, BESIDE = (5, 10, 30, 10), (18, 22, 6, 4)  # well within the extent of one another


def motion(ground, *moved):
    """Of cells of two pixels: that of the ground, and ((box), (x, y)) for what moves otherwise."""
    out = np.zeros((2, H // 2, W // 2), np.float32)
    out += np.reshape(ground, (2, 1, 1))
    for where, way in moved:
        out[:, box(where)[::2, ::2] > 0] = np.reshape(way, (2, 1))
    return out


def beside(craf, moved, *others):
    """Whether the island beside the body stays; the body always does."""
    scores = np.stack([box(TALL, BESIDE), *others])
    labels = craf.step(scores, sight=Sight(motion=moved)).labels
    assert (labels[box(TALL) > 0] == 1).all()
    kept = labels[box(BESIDE) > 0] == 1
    assert kept.all() or not kept.any()
    return bool(kept.all())


@pytest.mark.parametrize("ground", [(0, 0), (3, -2)])
def test_island_that_moves_as_the_ground_does_is_given_up(ground):
    way = np.add(ground, (1, 1))
    assert not beside(start(box(TALL)), motion(ground, (TALL, way)))
    assert beside(start(box(TALL)), motion(ground, (TALL, way), (BESIDE, way)))
    assert beside(start(box(TALL)), None)


def test_motion_tells_nothing_where_body_and_ground_move_alike():
    assert beside(start(box(TALL)), motion((2, 0), (TALL, (2.3, 0))))


def test_island_that_moves_its_own_way_stays():
    """A swinging arm, a wheel: what moves unlike the body need not be ground."""
    assert beside(start(box(TALL)), motion((0, 0), (TALL, (3, 0)), (BESIDE, (6, 1))))


def test_where_the_ground_has_no_one_motion_nothing_is_given_up():
    here, there = (0, 30, 20, 50), (20, 30, 20, 50)
    several = motion((0, 0), (here, (4, 0)), (there, (-4, 0)), (TALL, (0, 3)), (BESIDE, (0, 0)))
    assert beside(start(box(TALL)), several)


def test_island_stays_while_part_of_the_body_is_hidden():
    """It may be what is seen between two things that stand in front, whose motion it seems to have."""
    craf = start(box(TALL, (5, 10, 30, 30)))
    assert beside(craf, motion((0, 0), (TALL, (1, 1))))


def test_island_of_the_ground_stays_where_it_touches_another_object():
    other = (18, 26, 6, 6)
    craf = start(box(TALL), box(other))
    assert beside(craf, motion((0, 0), (TALL, (1, 1))), box(other))


def test_islands_of_fewer_cells_than_tell_a_motion_stay():
    moved = motion((0, 0), (TALL, (1, 1)))
    coarse = moved[:, ::6, ::6]
    assert beside(start(box(TALL)), coarse)
    assert beside(start(box(TALL)), np.zeros((2, 1, 1), np.float32))


def test_an_annotation_tells_of_its_own_objects_alone():
    """Another is half hidden while a new one is marked: it is as large as it was all the same."""
    long = (10, 10, 10, 40)
    both = np.zeros((H, W), np.int32)
    both[box((10, 10, 10, 12)) > 0] = 1
    both[box((30, 60, 8, 8)) > 0] = 2
    comes_out = box((10, 10, 10, 12), (10, 26, 10, 24), value=0.9)  # farther than the half would go
    new = box((30, 60, 8, 8))
    for known, kept in (((2,), True), (None, False)):
        craf = start(box(long))
        step(craf, box((10, 10, 10, 12), (10, 47, 10, 3)))
        craf.add(2)
        craf.start(both, known)
        labels = step(craf, comes_out, new)
        assert (labels[box((10, 10, 10, 12)) > 0] == 1).all() and (labels[new > 0] == 2).all()
        assert (labels[12, 40] == 1) == kept


FAR = (10, 60, 10, 10)  # from the body, much farther than an object goes in a frame


def likeness(*boxes):
    """Of cells of two pixels, of one object: 0.9 in the boxes, 0.7 elsewhere."""
    return Sight(likeness=(0.7 + 0.2 * box(*boxes))[None, ::2, ::2])


def test_after_a_cut_an_object_returns_from_anywhere_where_it_is_like_itself():
    craf = start(box(BODY))
    scores = box(BODY, FAR)[None]
    craf.scatter()
    for sight in (likeness(), likeness((30, 0, 5, 5))):  # place does not count any more
        assert not craf.step(scores, sight=sight).labels.any()
    saved = build_craf("default", (1,))
    saved.restore(craf.state())
    for filter in (craf, saved):
        assert np.array_equal(filter.step(scores, sight=likeness(FAR)).labels, box(FAR) > 0)
        # From then on it is where it is, and need not be like itself.
        assert np.array_equal(filter.step(scores, sight=likeness()).labels, box(FAR) > 0)


def test_after_a_cut_score_and_size_still_count_and_one_island_returns():
    craf = start(box(BODY))
    craf.scatter()
    large, small = (5, 40, 20, 20), (30, 5, 2, 2)
    assert not step(craf, box(large, value=0.7)).any() and not step(craf, box(small)).any()
    # Where nothing tells of likeness these decide.
    assert np.array_equal(step(craf, box(BODY, large)), box(large) > 0)


def test_after_a_cut_no_object_is_given_what_lies_where_it_was():
    own, other = (10, 10, 10, 10), (10, 30, 10, 10)
    craf = start(box(own), box(other))
    craf.scatter()
    labels = step(craf, box(other), box((30, 60, 1, 1)))  # each may be anywhere
    assert np.array_equal(labels, box(other) > 0)
    assert np.array_equal(step(craf, box(other), box(own)), (box(other) + 2 * box(own)).astype(int))


LONG, LEFT = (10, 10, 10, 20), (10, 10, 10, 6)  # the second is what is left of it in view
OUT = (10, 27, 10, 3)  # 12 pixels from that: beyond reach, within 1.5 times the radius, 10


@pytest.mark.parametrize(
    ("left", "island", "score", "like", "kept"),
    [
        (LEFT, OUT, 0.9, True, True),
        (LEFT, OUT, 0.9, False, False),
        (LEFT, OUT, 0.9, None, False),  # nothing tells of likeness
        (LEFT, OUT, 0.7, True, False),
        (LEFT, (10, 27, 3, 2), 0.9, True, False),  # 3 % of what the object is
        (LEFT, (10, 33, 10, 3), 0.9, True, False),  # too far
        ((10, 10, 10, 11), (10, 33, 10, 3), 0.9, True, False),  # most is in view
    ],
)
def test_object_comes_out_on_the_other_side_of_what_hides_most_of_it(left, island, score, like, kept):
    # What is refused is refused by this rule, not by that of the body.
    craf = start(box(LONG), params="default" if kept else ANYWHERE)
    step(craf, box(left))
    scores = np.maximum(box(left, value=0.9), box(island, value=score))[None]
    y, x, h, w = island
    sight = Sight() if like is None else likeness((y, x - 1, h, w + 1)) if like else likeness()
    wanted = box(left, island) if kept else box(left)
    assert np.array_equal(craf.step(scores, sight=sight).labels, wanted > 0)


def test_how_large_an_object_has_been_is_slowly_forgotten():
    craf = start(box(LONG))
    step(craf, box(LEFT))
    state = craf.state()
    assert state["full"].tolist() == [190.0] and state["area"].tolist() == [172.0]
    step(craf, box())  # nor at all while it is out of sight
    assert craf.state()["full"].tolist() == [190.0]
    step(craf, box((10, 10, 30, 30)))
    assert craf.state()["full"].tolist() == [172 + 0.2 * (900 - 172)]
    craf.start(box(LEFT).astype(np.int32))
    assert craf.state()["full"].tolist() == [60.0]


def test_maps_of_another_number_than_objects_are_refused():
    craf = start(box(BODY))
    with pytest.raises(ValueError, match="likeness must be"):
        craf.step(box(BODY)[None], sight=Sight(likeness=np.zeros((2, H, W))))
    with pytest.raises(ValueError, match="motion must be"):
        craf.step(box(BODY)[None], sight=Sight(motion=np.zeros((H, W))))
