"""Trajectories, on patches whose way through the frames is known."""

import pytest
import torch
from torch.testing import assert_close

from sam2love.trajectories import Trajectories, trajectories

SIDE, N, WIDTH = 4, 3, 16


def clip(places: list[int | None]) -> torch.Tensor:
    """Frames of one thing at a place each, or nowhere, over a background: (1, N, HW, d_V)."""
    background, thing = torch.eye(WIDTH)[:2]
    patches = background.expand(1, len(places), SIDE**2, WIDTH).clone()
    for frame, place in enumerate(places):
        if place is not None:
            patches[0, frame, place] = 5 * thing  # a length has no say
    return patches


def test_a_thing_is_found_again_where_it_went():
    """Row-major: 5 is row 1, column 1; 7 is two columns to the right; 13 is two rows below."""
    found = trajectories(clip([5, 7, 13]))[0, 5]
    expected = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 0.5, 1.0]])
    assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_thing_that_is_gone_resembles_nothing():
    likeness = trajectories(clip([5, None, 5]))[0, 5, :, 2]
    assert_close(likeness, torch.tensor([1.0, 0.0, 1.0]))


def test_rows_are_independent_and_nothing_is_trained_through_the_matching():
    both = torch.cat([clip([5, 7, 13]), clip([0, None, 1])]).requires_grad_()
    found = trajectories(both)
    assert not found.requires_grad
    assert_close(found[1:], trajectories(clip([0, None, 1])))


@pytest.mark.parametrize("frames", [1, 2])
def test_frames_that_a_short_clip_lacks_count_as_unseen(frames):
    torch.manual_seed(0)
    module = Trajectories(8, frames=N)
    short = clip([5, 7, 13])[:, :frames]
    found = torch.zeros(1, SIDE**2, N, 3)
    found[:, :, :frames] = trajectories(short)
    assert_close(module(short), module.embedding(3.0 * found.flatten(2)))
