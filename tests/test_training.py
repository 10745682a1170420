"""The rows of a step and the schedule; tests/stages/test_train.py trains."""

import numpy as np
import pytest

from sam2love.training import draw_rows, learning_rate_at


def test_rows_are_drawn_once_an_epoch_and_from_any_step():
    steps = [draw_rows(10, batch_size=4, step=step, seed=3) for step in range(5)]
    drawn = np.concatenate(steps)
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    assert list(draw_rows(10, batch_size=4, step=3, seed=3)) == list(steps[3])
    assert list(draw_rows(10, batch_size=4, step=3, seed=4)) != list(steps[3])


def test_learning_rate_warms_up_and_decays_to_nothing():
    rates = [learning_rate_at(step, steps=20, warmup_steps=5) for step in range(21)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == 1.0
    assert np.diff(rates[5:]) == pytest.approx(-1 / 15)
    assert rates[20] == 0
