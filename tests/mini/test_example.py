import numpy as np

from mini import example
from sam2love.prediction.video import Video
from tests.tiny import REPOSITORY


def test_the_defaults_write_the_clip_that_ships_with_the_package(tmp_path):
    example.main(tmp_path / "example.mp4")
    written = Video(tmp_path / "example.mp4")
    shipped = Video(REPOSITORY / "sam2love/shipped/example.mp4")
    # Encoders of different builds may write other bytes.
    for ours, theirs in zip(written.frames(), shipped.frames(), strict=True):
        assert ours.time == theirs.time
        assert np.abs(ours.pixels.astype(int) - theirs.pixels).mean() < 3
    (ours, _), (theirs, _) = next(written.sound(seconds=10)), next(shipped.sound(seconds=10))
    np.testing.assert_allclose(ours, theirs, atol=0.01)
