"""Segment every frame of any video by sentences.

The video is processed in windows as long as the clips in training: one frame per second and the
sound yield a token for each sentence. The first window with a belief above 0.5 prompts SAM 2 on its
first frame, and memory carries the mask through all later frames; earlier frames stay empty. So the
file is read twice, and only one window is held in memory.

Shapes: B sentences, P tokens, C channels, H x W pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sam2love.dataset.refavs import FRAMES
from sam2love.device import use_device
from sam2love.encoders.audio import AudioEncoder, load_audio_encoder
from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.encoders.vision import VisionEncoder, load_vision_encoder
from sam2love.encoders.weights import DEFAULT
from sam2love.evaluation.metrics import SHOWN, probabilities
from sam2love.model import SAM2Love
from sam2love.prediction.outcome import Outcome, Sentence, atomic_folder, check_request
from sam2love.prediction.video import Frame, Video, each_second
from sam2love.sam.build import SAM2Base
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.sam.propagate import MaskStream, build_tracker
from sam2love.stores.features import Features

SILENCE = np.zeros(1, np.float32), 16_000
Item = TypeVar("Item")


@dataclass(frozen=True)
class Window:
    """A clip's length of the video, or what remains at its end.

    frame: number of the frame displayed at its start, which its token would prompt.
    prompts: (B, 1, C).
    beliefs: (B,) in [0, 1], see `outcome.BELIEF_MEANS`.
    """

    start: float
    frame: int
    prompts: Tensor
    beliefs: list[float]


class Predictor:
    """A trained model with its encoders.

    Args:
        tracker: segments the frames after the prompted one; see `sam.propagate`.
        gate: prompt the first window with a belief above 0.5 instead of always the first one; see
            `params.Propagate`.
        seconds: length of a window, that of the clips in training.
    """

    def __init__(
        self,
        model: SAM2Love,
        *,
        audio: AudioEncoder,
        vision: VisionEncoder,
        text: TextEncoder,
        tracker: SAM2Base | None = None,
        gate: bool = True,
        seconds: int = FRAMES,
    ) -> None:
        self.model, self.tracker, self.gate, self.seconds = model, tracker, gate, seconds
        self.audio, self.vision, self.text = audio, vision, text
        self._device = model.sam2.device

    @classmethod
    def from_pretrained(
        cls, source: str | Path = DEFAULT, *, device: str | None = None
    ) -> "Predictor":
        """Load a model as `SAM2Love.from_pretrained` does, with its encoders and tracker.

        Args:
            device: see `use_device`.

        Raises:
            OSError, ValueError: the device doesn't exist, or the model can't be loaded.
        """
        chosen = use_device(device)
        model = SAM2Love.from_pretrained(source).to(chosen)
        config = model.config
        assert config is not None
        audio, vision, text = config.audio, config.vision, config.text
        return cls(
            model,
            audio=load_audio_encoder(
                audio.weights, audio.digest, post_relu=audio.post_relu, device=chosen
            ),
            vision=load_vision_encoder(vision.weights, vision.digest, device=chosen),
            text=load_text_encoder(
                text.weights, text.digest, max_tokens=text.max_tokens, device=chosen
            ),
            tracker=build_tracker(config, model.sam2),
            gate=config.propagate.gate,
            seconds=config.data.frames,
        )

    def predict(
        self,
        video: str | Path,
        texts: Sequence[str],
        *,
        out: str | Path,
        sound: bool = True,
        words: bool = True,
        progress: bool = False,
    ) -> Outcome:
        """Segment what each sentence refers to; write masks, overlay.mp4, strip.png, belief.json.

        Args:
            out: folder to write; it appears when everything is done.
            sound: False mutes the video for the model; the overlay keeps its sound.
            words: False hides the sentences from the model.
            progress: show progress bars.

        Raises:
            OSError, ValueError: `out` exists, can't be written or is being written by another run;
                the video can't be read; there are no sentences, or one is empty or not UTF-8.
        """
        check_request(video, texts, out)
        with atomic_folder(Path(out)) as folder:
            opened = Video(video)
            read = texts if words else [""] * len(texts)
            windows, times = self._watch(opened, read, sound=sound, progress=progress)
            prompted = [self._prompted(windows, row) for row in range(len(texts))]
            outcome = Outcome(
                video=opened.path.name,
                notes=[*opened.notes, *self._truncation_notes(read)],
                window_starts=[window.start for window in windows],
                times=[round(time, 4) for time in times],
                sentences=[
                    Sentence.numbered(
                        row,
                        text,
                        prompted_at=window.start if window else None,
                        windows=[w.beliefs[row] for w in windows],
                    )
                    for row, (text, window) in enumerate(zip(texts, prompted, strict=True))
                ],
            )
            tracked = self._track(opened, windows, prompted, frames=len(times))
            bar = _bar(tracked, "track", len(times), show=progress)
            outcome.write(folder, video=opened, tracked=bar)
        return outcome

    def _prompted(self, windows: list[Window], row: int) -> Window | None:
        """Return the first window with a belief above 0.5 for a sentence, or any without a gate."""
        open_windows = (w for w in windows if not self.gate or w.beliefs[row] > SHOWN)
        return next(open_windows, None)

    def _truncation_notes(self, texts: Sequence[str]) -> Iterator[str]:
        """Yield a note for each sentence with more tokens than the model reads."""
        for text in texts:
            if cut := self.text.truncation(text):
                yield (
                    f'"{shorten(text, 40, placeholder="...")}" has {cut[0]} tokens, of which the '
                    f'model reads {self.text.max_tokens}: "{cut[1]}"'
                )

    @torch.inference_mode()
    def _watch(
        self, video: Video, texts: Sequence[str], *, sound: bool, progress: bool
    ) -> tuple[list[Window], list[float]]:
        """First pass: compute each window's prompts and beliefs, and the time of every frame."""
        times: list[float] = []

        def frames() -> Iterator[Frame]:
            for frame in _bar(video.frames(), "watch", video.frame_count, show=progress):
                times.append(frame.time)
                yield frame

        tokens, lengths = self.text.encode(list(texts))
        longest = int(lengths.max())
        text_mask = torch.arange(longest)[None] < lengths[:, None]  # (B, P)
        pieces = video.sound(seconds=self.seconds) if sound else iter(())
        seconds = each_second(frames())
        windows: list[Window] = []
        while shown := list(islice(seconds, self.seconds)):
            pictures = [self.vision.preprocess(frame.pixels[None]) for _, frame in shown]
            clip = (
                self.audio.encode(*next(pieces, SILENCE), seconds=self.seconds),
                *self.vision.encode(torch.cat(pictures)),
            )
            audio, patches, cls = (part.expand(len(texts), *part.shape) for part in clip)
            features = Features(audio, patches, cls, tokens[:, :longest], text_mask)
            prompts = self.model(features.to(self._device)).prompts
            number, frame = shown[0]
            _, scores = self._stream(prompts, frames=1).step(self._levels(frame))
            start = float(self.seconds * len(windows))
            windows.append(Window(start, number, prompts, _beliefs(scores)))
        return windows, times

    def _track(
        self, video: Video, windows: list[Window], prompted: list[Window | None], *, frames: int
    ) -> Iterator[tuple[Frame, list[np.ndarray], list[float]]]:
        """Second pass: yield every frame with the sentences' masks (H, W) and beliefs."""
        streams: list[tuple[list[int], MaskStream]] = []
        for number, frame in enumerate(video.frames()):
            levels, size = self._levels(frame), frame.pixels.shape[:2]
            masks = [np.zeros(size, np.float32) for _ in prompted]
            window = windows[min(int(frame.time // self.seconds), len(windows) - 1)]
            beliefs = list(window.beliefs)
            for window in windows:  # sentences prompted in the same window share a stream
                rows = [row for row, own in enumerate(prompted) if own is window]
                if rows and window.frame == number:
                    streams.append((rows, self._stream(window.prompts[rows], frames=frames)))
            for rows, stream in streams:
                logits, scores = stream.step(levels)
                found = probabilities(logits.cpu().numpy(), size=size, logits=True)  # (B, H, W)
                for row, mask, belief in zip(rows, found, _beliefs(scores), strict=True):
                    masks[row], beliefs[row] = mask, belief
            yield frame, masks, beliefs

    def _levels(self, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a frame with SAM 2, up to the layers in which model and tracker may differ."""
        sam2 = self.model.sam2
        image = preprocess(frame.pixels[None], sam2.image_size).to(self._device)
        return encode_frames(sam2, image, before_high_res_convs=True)

    def _stream(self, prompts: Tensor, *, frames: int) -> MaskStream:
        same_clip = torch.zeros(len(prompts), dtype=torch.int64, device=self._device)
        return MaskStream(self.model.sam2, prompts, same_clip, frames=frames, tracker=self.tracker)


def _beliefs(scores: Tensor) -> list[float]:
    return [round(belief, 4) for belief in scores.float().sigmoid().tolist()]


def _bar(items: Iterable[Item], name: str, total: int | None, *, show: bool) -> Iterable[Item]:
    # Not by disable=..., which would override the environment's TQDM_DISABLE.
    return tqdm(items, name, total, unit="frame") if show else items
