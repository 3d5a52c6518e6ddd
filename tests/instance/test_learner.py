from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.instance.learner import (
    Learner,
    LearnerConfig,
    Moments,
    classify,
    describe,
    hard_moments,
    moments,
    moments_of_frame,
    solve,
)

pytestmark = pytest.mark.usefixtures("one_thread")
H, W = 8, 10


def scene(seed: int = 0, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """An embedding whose first channel tells the object, and the object's shares."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(1, 6, H, W, generator=generator)
    shares = torch.zeros(1, 1, 2 * H, 2 * W)
    shares[..., 4:12, 6:14] = 1
    inside = F.avg_pool2d(shares, 2)[:, 0] > 0
    embedding[:, 0] = torch.where(inside, sign * 2.0, -sign * 2.0)
    return embedding, shares


def agreement(scores: Tensor, shares: Tensor) -> float:
    return float(((F.pixel_shuffle(scores[0], 2)[0, 0] > 0) == (shares[0, 0] > 0.5)).float().mean())


def test_it_is_the_weighted_least_squares_solution() -> None:
    embedding, shares = scene()
    inputs = describe(embedding).double()
    assert inputs.shape == (1, H * W, 13)
    found = solve(moments(inputs, shares.double()), 0.0)[0, 0]
    cells = F.pixel_unshuffle(shares, 2)[0].flatten(1).T.double()
    inside = cells.amax(1) > 0.5
    portion = inside.double().mean()
    root = torch.where(inside, 0.5 / portion, 0.5 / (1 - portion)).sqrt()[:, None]
    wanted = torch.linalg.lstsq(inputs[0] * root, (2 * cells - 1) * root).solution
    assert torch.allclose(found, wanted, atol=1e-3)


def test_moments_of_a_frame_are_those_of_cells_that_stand_for_others() -> None:
    """Where neighbours are the same nothing is lost; also of an object that is nowhere."""
    generator = torch.Generator().manual_seed(1)

    def blocks(*size: int) -> Tensor:  # of eight cells
        found = torch.rand(1, *size, 16, 10, generator=generator)
        return found.repeat_interleave(2, -2).repeat_interleave(4, -1)

    embedding = 2 * blocks(6) - 1
    inputs = torch.cat((embedding, torch.ones(1, 1, 32, 40)), 1).flatten(2).transpose(1, 2)
    shares = torch.zeros(1, 3, 64, 80)
    shares[0, 0, 8:14, 12:20], shares[0, 1, 20:30, 4:36] = 1, 0.8
    certainty, scores = blocks(3), 3 * blocks(3, 4) - 1.5
    for told in ((), (certainty,), (certainty, scores)):
        found, wanted = moments_of_frame(inputs, shares, *told), moments(inputs, shares, *told)
        assert torch.allclose(found.inputs[:, 2], wanted.inputs[:, 2], atol=1e-5)
        assert torch.allclose(found.targets[:, 2], wanted.targets[:, 2], atol=1e-5)
        # A block that lies partly in the object's surroundings is counted more or less than once.
        assert torch.allclose(found.inputs, wanted.inputs, atol=0.05)
        assert torch.allclose(found.targets, wanted.targets, atol=0.05)


def test_each_object_has_scores_of_its_own_classifier() -> None:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 6, 5, generator=draw)
    classifiers = torch.randn(2, 3, 5, 4, generator=draw)
    scores = classify(inputs, classifiers, (2, 3))
    assert scores.shape == (2, 3, 4, 2, 3)
    for b in range(2):
        for n in range(3):
            wanted = (inputs[b] @ classifiers[b, n]).clamp(-2, 2).T.view(4, 2, 3)
            assert torch.allclose(scores[b, n], wanted, atol=1e-5)
    assert float(scores.abs().max()) == 2


def test_what_is_easy_counts_little() -> None:
    """A few cells that look like the object: a plain fit gives them up for all that is easy."""
    generator = torch.Generator().manual_seed(2)
    embedding = torch.randn(1, 2, 16, 20, generator=generator) * 0.1
    shares = torch.zeros(1, 1, 32, 40)
    shares[..., 8:16, 8:16] = 1
    embedding[:, 0, 4:8, 4:8] += 1.0
    embedding[:, 0, 12:14, 14:16] += 0.8  # alike, and not the object
    embedding[:, 0, :3] -= 8.0  # far beyond what was asked for
    inputs = describe(embedding)

    def make(classifier: Tensor | None) -> Moments:
        scores = None if classifier is None else classify(inputs, classifier, (16, 20))
        return moments(inputs, shares, None, scores)

    def right(found: Moments) -> float:
        return agreement(classify(inputs, solve(found, 0.01), (16, 20)), shares)

    assert right(hard_moments(make, 0.01)) > right(make(None)) + 0.02


def test_error_is_the_mean_squared_error() -> None:
    embedding, shares = scene()
    inputs = describe(embedding).double()
    found = moments(inputs, shares.double())
    classifier = torch.randn(1, 1, 13, 4, generator=torch.Generator().manual_seed(3)).double()
    cells = F.pixel_unshuffle(shares, 2)[0].flatten(1).T.double()
    inside = cells.amax(1) > 0.5
    portion = inside.double().mean()
    weight = torch.where(inside, 0.5 / portion, 0.5 / (1 - portion))
    squares = (inputs[0] @ classifier[0, 0] - (2 * cells - 1)).square().mean(1)
    wanted = (squares * weight).sum() / weight.sum()
    assert torch.allclose(found.error(classifier)[0, 0], wanted)


def test_it_learns_the_object_and_what_comes_later() -> None:
    embedding, shares = scene()
    learner = Learner(LearnerConfig(tolerance=9.0))
    learner.begin(moments(describe(embedding), shares))
    steady, learning = learner.scores(describe(embedding), (H, W))
    assert torch.equal(steady, learning) and agreement(steady, shares) > 0.98
    # Later the object has turned: a feature that said nothing before tells it now.
    later, _ = scene(1)
    later[:, 1], later[:, 0] = later[:, 0].clone(), 0.0
    for _ in range(4):
        learner.update(moments(describe(later), shares))
    steady, learning = learner.scores(describe(later), (H, W))
    assert agreement(learning, shares) > 0.95 > agreement(steady, shares)
    assert agreement(learner.scores(describe(embedding), (H, W))[1], shares) > 0.95


def test_an_update_against_the_annotated_frame_is_taken_back() -> None:
    embedding, shares = scene()
    learner = Learner(LearnerConfig())
    learner.begin(moments(describe(embedding), shares))
    before = learner.scores(describe(embedding), (H, W))[1]
    wrong, _ = scene(2, sign=-1.0)
    learner.update(moments(describe(wrong), shares))
    assert torch.equal(learner.scores(describe(embedding), (H, W))[1], before)


def test_what_is_not_seen_is_not_unlearned() -> None:
    embedding, shares = scene()
    both = torch.cat((shares, shares.flip(3)), 1)
    learner = Learner(LearnerConfig(tolerance=9.0))
    learner.begin(moments(describe(embedding), both))
    first, second = learner.scores(describe(embedding), (H, W))[1].unbind(1)
    gone = torch.cat((torch.zeros_like(shares), shares.flip(3)), 1)
    for _ in range(3):
        learner.update(moments(describe(scene(1)[0]), gone), torch.tensor([False, True]))
    kept, later = learner.scores(describe(embedding), (H, W))[1].unbind(1)
    assert torch.equal(kept, first) and not torch.equal(later, second)


def test_state_goes_on_as_it_was() -> None:
    embedding, shares = scene()
    one, two = Learner(LearnerConfig()), Learner(LearnerConfig())
    one.begin(moments(describe(embedding), shares))
    one.update(moments(describe(scene(1)[0]), shares))
    two.restore({k: v.clone() for k, v in one.state().items()})
    for learner in (one, two):
        learner.update(moments(describe(scene(2)[0]), shares))
    for a, b in zip(*(x.scores(describe(embedding), (H, W)) for x in (one, two)), strict=True):
        assert torch.equal(a, b)


def test_objects_come_and_go() -> None:
    embedding, shares = scene()
    both = torch.cat((shares, shares.flip(3)), 1)
    learner = Learner(LearnerConfig())
    learner.begin(moments(describe(embedding), both))
    learner.update(moments(describe(scene(1)[0]), both))
    second = learner.scores(describe(embedding), (H, W))[1][:, 1]
    learner.arrange([1, None])
    learner.begin(moments(describe(embedding), both.flip(1)), [False, True])
    kept, new = learner.scores(describe(embedding), (H, W))[1].unbind(1)
    assert torch.allclose(kept, second, atol=1e-4)
    fresh = Learner(LearnerConfig())
    fresh.begin(moments(describe(embedding), shares))
    assert torch.allclose(new, fresh.scores(describe(embedding), (H, W))[1][:, 0], atol=1e-4)


def test_cells_that_are_not_sure_do_not_teach() -> None:
    embedding, shares = scene()
    sure = torch.zeros(1, 1, H, W)
    sure[..., : H // 2, :] = 1
    spoilt = shares.clone()
    spoilt[..., H:, :] = spoilt[..., H:, :].roll(2, 3)
    assert not torch.equal(spoilt, shares)
    a, b = (moments(describe(embedding), s, sure) for s in (shares, spoilt))
    assert torch.allclose(a.targets, b.targets, atol=1e-6)
    assert torch.allclose(a.inputs, b.inputs, atol=1e-6)
