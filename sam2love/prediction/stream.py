"""Segment a camera, or any video without an end, by sentences.

Shapes: B sentences, H x W pixels.
"""

import sys
from collections.abc import Sequence

import numpy as np

from sam2love.evaluation.metrics import SHOWN
from sam2love.prediction.prompter import Prompter, beliefs_of, masks_of
from sam2love.sam.propagate import MaskStream

ENDLESS = sys.maxsize
"""Frames of a stream."""


class Stream:
    """Segments frame by frame, holding a window of sound, a picture per second of it and SAM 2's
    memory.

    A stream has no future, so its prompts come from the past. The first frame is prompted at once,
    from its picture and the sound so far. Later, whenever ten seconds are over, they are a window
    as in training: their token prompts their first frame anew, or the one that the model chooses
    (`SAM2Love.prompts`), and memory carries the mask through the picture of each later second to
    the present. As in files, a window prompts only the sentences with
    a belief above 0.5, if the model has a gate; the others keep their masks, empty until the first
    prompt.

    Args:
        texts: the sentences.
        rate_hz: sample rate of the sound.
    """

    def __init__(self, prompter: Prompter, texts: Sequence[str], *, rate_hz: int) -> None:
        self._prompter, self._rate_hz = prompter, rate_hz
        self._read = prompter.read(texts)
        self._streams: dict[int, MaskStream] = {}
        self._beliefs: list[float] = []
        self._pictures: list[np.ndarray] = []
        self._sound = np.zeros(0, np.float32)

    def step(self, frame: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """Segment the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB.
            sound: (n,) float32 in [-1, 1], one channel: the samples since the last step. Their
                number is the stream's clock, so a camera without sound is given zeros.

        Returns:
            Foreground probabilities (B, H, W), float32, and B beliefs in [0, 1]; see
            `outcome.BELIEF_MEANS`.

        Raises:
            ValueError: the frame or the sound has another shape, or there are ten seconds of sound
                or more.
        """
        length = self._prompter.seconds * self._rate_hz
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"frame: found {frame.dtype} of shape {frame.shape}; expected uint8, (H, W, 3)"
            )
        if sound.ndim != 1 or len(sound) >= length:
            raise ValueError(
                f"sound: found shape {sound.shape} at {self._rate_hz} Hz; expected the samples "
                f"since the last step, (n,), less than {self._prompter.seconds} seconds"
            )
        self._sound = np.concatenate([self._sound, sound.astype(np.float32)])
        heard, past = min(len(self._sound), length), len(self._pictures)
        # One picture per second, and as many of a step that takes several.
        while not self._pictures or len(self._pictures) * self._rate_hz < heard:
            self._pictures.append(frame.copy())
        if not self._beliefs or heard == length:
            self._prompt(self._sound[:length], self._pictures[:past])
        if heard == length:
            self._pictures, self._sound = [], self._sound[length:]
        levels, beliefs = self._prompter.levels(frame), list(self._beliefs)
        masks = np.zeros((len(beliefs), *frame.shape[:2]), np.float32)
        for row, stream in self._streams.items():
            logits, score = stream.step(levels)
            masks[row], beliefs[row] = masks_of(logits, frame.shape[:2])[0], beliefs_of(score)[0]
        return masks, beliefs

    def _prompt(self, sound: np.ndarray, past: list[np.ndarray]) -> None:
        """Prompt one of the window's pictures, and track through the later ones up to this step."""
        prompter = self._prompter
        prompts = prompter.prompts(self._read, self._pictures, sound, self._rate_hz)
        self._beliefs = prompter.beliefs(prompts, self._pictures)
        shown = [row for row, b in enumerate(self._beliefs) if b > SHOWN or not prompter.gate]
        anew = {row: prompter.track(prompts.tokens[[row]], frames=ENDLESS) for row in shown}
        for second, picture in enumerate(past):
            levels = prompter.levels(picture)
            for row, stream in anew.items():
                if prompts.frame[row] <= second:
                    stream.step(levels)
        self._streams |= anew
