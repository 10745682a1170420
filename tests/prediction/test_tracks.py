"""The clock that corrects a file's timestamps, packet by packet."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from sam2love.prediction.tracks import MAX_GAP, Clock


def corrected(*packets: tuple[int, float]) -> list[float]:
    """Return the corrected times of packets (track, seconds) that last 0.2 s."""
    clock, times = Clock(), []
    for track, time in packets:
        timestamp, unit = round(1000 * time), Fraction(1, 1000)
        packet = SimpleNamespace(  # an av.Packet without a file has no track
            stream_index=track, dts=timestamp, pts=timestamp, duration=200, time_base=unit
        )
        clock.correct(packet)
        times.append(float(packet.dts * unit))
    return times


def test_good_times_are_unchanged():
    good = [(0, 5.0), (1, 4.9), (0, 5.2), (1, 5.1), (0, 9.0), (1, 5.3), (0, 9.0 + MAX_GAP)]
    assert corrected(*good) == pytest.approx([time for _, time in good])


def test_tracks_that_jump_together_stay_in_sync():
    before = [(0, 100.0), (1, 100.05), (0, 100.2), (1, 100.25)]
    after = [(1, 3.0), (0, 3.1), (1, 3.2), (0, 3.3)]
    times = corrected(*before, *after)
    assert times[:4] == pytest.approx([time for _, time in before])
    assert times[4:] == pytest.approx([time - 3.0 + 100.45 for _, time in after])


def test_a_single_wrong_time_shifts_no_other():
    for wrong in (0.0, 99_999.0):
        times = corrected((0, 300.0), (0, 300.2), (0, wrong), (0, 300.6), (0, 300.8))
        assert times == pytest.approx([300.0, 300.2, 300.4, 300.6, 300.8])


def test_a_gap_in_one_track_only_is_no_jump():
    sound = [(1, float(second)) for second in range(0, 2000, 100)]
    assert corrected((0, 0.0), *sound, (0, 1900.0))[-1] == 1900
    assert corrected((0, 0.0), (0, 1900.0)) == pytest.approx([0.0, 0.2])


def test_tracks_stored_one_after_the_other_start_together():
    sound = [(1, float(second)) for second in range(0, 3000, 100)]
    assert corrected(*sound, (0, 0.0), (0, 0.2))[-2:] == pytest.approx([0.0, 0.2])
