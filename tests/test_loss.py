"""The terms of the loss by hand."""

import math

import numpy as np
import pytest
import torch

from sam2love.loss import mask_loss


def test_mask_loss_by_hand():
    # Two pixels in the mask, two outside, every logit 0: a probability of 0.5 everywhere.
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    bce, dice = mask_loss(torch.zeros(1, 1, 2, 2), [mask])
    assert bce.item() == pytest.approx(math.log(2))
    assert dice.item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))


def test_mask_loss_takes_each_label_at_its_own_size():
    torch.manual_seed(0)
    logits = torch.randn(3, 1, 4, 4)
    masks = [(torch.rand(size) > 0.5).float() for size in [(8, 8), (6, 10), (8, 8)]]
    alone = [mask_loss(logits[[row]], [mask]) for row, mask in enumerate(masks)]
    bce, dice = mask_loss(logits, masks)
    assert bce.item() == pytest.approx(np.mean([pair[0].item() for pair in alone]))
    assert dice.item() == pytest.approx(np.mean([pair[1].item() for pair in alone]))


def test_mask_loss_vanishes_for_a_sure_and_right_mask():
    mask = (torch.arange(64).view(8, 8) % 3 == 0).float()
    bce, dice = mask_loss((mask * 40 - 20)[None, None], [mask])
    assert bce.item() < 1e-6
    assert dice.item() < 1e-6
