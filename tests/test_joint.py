"""Trajectories, on patches whose way through the frames is known."""

import pytest
import torch
from torch.testing import assert_close

from sam2love.joint import SCALE, trajectories

SIDE, N, WIDTH = 4, 3, 16


def clip(places: list[int | None]) -> torch.Tensor:
    """Frames of one thing at a place each, or nowhere, over a background: (1, N, HW, d_V)."""
    background, thing = torch.eye(WIDTH)[:2]
    patches = background.expand(1, len(places), SIDE**2, WIDTH).clone()
    for frame, place in enumerate(places):
        if place is not None:
            patches[0, frame, place] = 5 * thing  # a length has no say
    return patches


def found(patches: torch.Tensor, *, start: int = 0, frames: int = N) -> torch.Tensor:
    """Shifts and likeness without their scale: (B, HW, N, 3)."""
    starts = torch.full((len(patches),), start)
    return (trajectories(patches, starts, frames=frames) / SCALE).unflatten(2, (frames, 3))


def test_a_thing_is_found_again_where_it_went():
    """Row-major: 5 is row 1, column 1; 7 is two columns to the right; 13 is two rows below."""
    expected = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 0.5, 1.0]])
    assert_close(found(clip([5, 7, 13]))[0, 5], expected, atol=1e-4, rtol=0)


def test_a_thing_is_found_again_from_the_frame_on_which_it_is_looked_for():
    """At row 1, column 3 on frame 1; two columns to the left before, two rows below after."""
    expected = torch.tensor([[-0.5, 0.0, 1.0], [0.0, 0.0, 1.0], [-0.5, 0.5, 1.0]])
    assert_close(found(clip([5, 7, 13]), start=1)[0, 7], expected, atol=1e-4, rtol=0)
    both = torch.cat([clip([5, 7, 13])] * 2)
    each = trajectories(both, torch.tensor([0, 1]), frames=N) / SCALE
    assert_close(each[1].unflatten(1, (N, 3))[7], expected, atol=1e-4, rtol=0)


def test_a_thing_that_is_gone_resembles_nothing():
    likeness = found(clip([5, None, 5]))[0, 5, :, 2]
    assert_close(likeness, torch.tensor([1.0, 0.0, 1.0]))


def test_rows_are_independent_and_nothing_is_trained_through_the_matching():
    both = torch.cat([clip([5, 7, 13]), clip([0, None, 1])]).requires_grad_()
    assert not found(both).requires_grad
    assert_close(found(both)[1:], found(clip([0, None, 1])))


@pytest.mark.parametrize("seen", [1, 2])
def test_frames_that_a_short_clip_lacks_are_zero(seen):
    short = found(clip([5, 7, 13])[:, :seen])
    assert_close(short[:, :, :seen], found(clip([5, 7, 13]))[:, :, :seen])
    assert not short[:, :, seen:].any()
