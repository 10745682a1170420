"""Sentences and anyone's video in, masks on every frame out.

The video is looked at in windows of ten seconds, as the model was trained: a frame a second and the
sound make a token for each sentence, and the first window in which the model believes that what is
meant is there prompts SAM 2 on its first frame. From there memory carries the mask through all
later frames; before it nothing is shown. So the file is read twice, and memory holds one window.

Shapes: B sentences, W windows, n <= 10 frames of a window, N frames of the video.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sam2love.drawing import COLOURS, STRIP_FRAMES, film_strip, overlay, thumbnail
from sam2love.encoders.audio import AudioEncoder, load_audio_encoder
from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.encoders.vision import VisionEncoder, load_vision_encoder
from sam2love.features import Features
from sam2love.metrics import SHOWN, probabilities
from sam2love.model import SAM2Love
from sam2love.refavs import CLIP_SECONDS
from sam2love.sam.build import SAM2Base, build_sam2
from sam2love.sam.encode import preprocess
from sam2love.sam.stream import MaskStream, prompted
from sam2love.video import Frame, Video, VideoWriter
from sam2love.weights import DEFAULT, find

SILENCE = np.zeros(1, np.float32), 16_000
ROUNDING = 1e-3
"""Seconds by which files round their times."""
MASKS, OVERLAY, BELIEF, STRIP = "masks", "overlay.mp4", "belief.json", "strip.png"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Window:
    """Ten seconds of the video, or its last ones.

    frame: number of the frame on show at its start, which its token would prompt.
    prompts: (B, 1, C).
    beliefs: (B,) probabilities that what is meant is there.
    """

    start: float
    frame: int
    prompts: Tensor
    beliefs: list[float]


@dataclass(frozen=True)
class Sentence:
    """What came of a sentence.

    masks: folder of its masks, a PNG a frame, value / 255 the probability.
    colour: RGB of its tint in the overlay.
    prompted_at: seconds at which its mask starts; None if nothing was found.
    windows: belief of each window.
    beliefs: belief of each frame; before the mask starts, that of the window.
    """

    text: str
    masks: str
    colour: tuple[int, int, int]
    prompted_at: float | None
    windows: list[float]
    beliefs: list[float]

    @property
    def told(self) -> str:
        """What came of it, in words."""
        if self.prompted_at is None:
            return f"is not believed to be there (at most {max(self.windows):.2f})"
        return f"is shown from second {self.prompted_at:g} on (belief {max(self.windows):.2f})"


@dataclass(frozen=True)
class Prediction:
    """What belief.json holds; times are in seconds from the first frame."""

    video: str
    notes: list[str]
    window_starts: list[float]
    times: list[float]
    sentences: list[Sentence]


class Predictor:
    """A trained model with its encoders.

    Args:
        tracker: segments the frames after the prompted one; see `sam.propagate`.
    """

    def __init__(
        self,
        model: SAM2Love,
        *,
        audio: AudioEncoder,
        vision: VisionEncoder,
        text: TextEncoder,
        tracker: SAM2Base | None = None,
    ) -> None:
        self.model, self.tracker = model, tracker
        self.audio, self.vision, self.text = audio, vision, text
        self._device = model.sam2.device

    @classmethod
    def from_pretrained(
        cls, source: str | Path = DEFAULT, *, device: str | None = None
    ) -> "Predictor":
        """Load a model as `SAM2Love.from_pretrained` does, with what it names.

        Args:
            device: "cuda" if there is one, else "cpu", by default.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = SAM2Love.from_pretrained(source).to(device)
        config = model.config
        assert config is not None
        (audio, vision, text), sam2 = (config.audio, config.vision, config.text), config.sam2
        tracker = None
        if config.propagate.tracker == "pretrained":
            tracker = build_sam2(
                find(sam2.config), find(sam2.weights), digest=sam2.digest, device=device
            )
        return cls(
            model,
            audio=load_audio_encoder(
                find(audio.weights), audio.digest, post_relu=audio.post_relu, device=device
            ),
            vision=load_vision_encoder(find(vision.weights), vision.digest, device=device),
            text=load_text_encoder(
                find(text.weights), text.digest, max_tokens=text.max_tokens, device=device
            ),
            tracker=tracker,
        )

    def predict(
        self,
        video: str | Path,
        texts: Sequence[str],
        *,
        out: str | Path,
        sound: bool = True,
        progress: bool = False,
    ) -> Prediction:
        """Segment what each sentence means, and write masks, overlay.mp4, strip.png, belief.json.

        Args:
            out: folder to write; it is there only when all is done.
            sound: False mutes the video for the model; the overlay keeps its sound.
            progress: show bars.

        Raises:
            FileExistsError, FileNotFoundError, ValueError: `out` is there already, or the video
                isn't or can't be read, or there is no sentence.
        """
        out = Path(out)
        if not texts:
            raise ValueError("no sentence to segment by; give one at least")
        if out.exists():
            raise FileExistsError(f"{out}: already there; remove it or write elsewhere")
        opened = Video(video)
        partial = out.with_name(f"{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            windows, times = self._watch(opened, texts, sound=sound, progress=progress)
            sentences = _planned(texts, windows)
            self._write(opened, windows, sentences, times, partial, progress=progress)
            prediction = Prediction(
                video=str(video),
                notes=[] if opened.has_sound else [f"{video} has no sound: taken as silence"],
                window_starts=[window.start for window in windows],
                times=[round(time, 4) for time in times],
                sentences=sentences,
            )
            written = json.dumps(asdict(prediction), indent=1, ensure_ascii=False) + "\n"
            (partial / BELIEF).write_text(written, encoding="utf-8")
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return prediction

    @torch.inference_mode()
    def _watch(
        self, video: Video, texts: Sequence[str], *, sound: bool, progress: bool
    ) -> tuple[list[Window], list[float]]:
        """First reading: what each window says, and the time of every frame."""
        times: list[float] = []

        def frames() -> Iterator[Frame]:
            for frame in _bar(video.frames(), "watch", video.frame_count, show=progress):
                times.append(frame.time)
                yield frame

        tokens, lengths = self.text.encode(list(texts))
        longest = int(lengths.max())
        text_mask = torch.arange(longest)[None] < lengths[:, None]
        pieces = video.sound(seconds=CLIP_SECONDS) if sound else iter(())
        seconds = each_second(frames(), last_seconds=video.seconds_per_frame)
        windows: list[Window] = []
        while seen := list(islice(seconds, CLIP_SECONDS)):
            pictures = [self.vision.preprocess(frame.pixels[None]) for _, frame in seen]
            clip = (
                self.audio.encode(*next(pieces, SILENCE)),
                *self.vision.encode(torch.cat(pictures)),
            )
            audio, patches, cls = (part.expand(len(texts), *part.shape) for part in clip)
            features = Features(audio, patches, cls, tokens[:, :longest], text_mask)
            prompts, _ = self.model.prompt(features.to(self._device))
            number, frame = seen[0]
            decoded = prompted(self.model.sam2, self._image(frame), prompts)
            start = float(CLIP_SECONDS * len(windows))
            windows.append(Window(start, number, prompts, _beliefs(decoded.object_score[:, 0])))
        return windows, times

    def _write(
        self,
        video: Video,
        windows: list[Window],
        sentences: list[Sentence],
        times: list[float],
        folder: Path,
        *,
        progress: bool,
    ) -> None:
        """Second reading: write the masks and the pictures of them, and note beliefs."""
        for sentence in sentences:
            (folder / sentence.masks).mkdir(parents=True)
        colours = [sentence.colour for sentence in sentences]
        films: list[list[np.ndarray]] = [[] for _ in sentences]
        in_films = set(np.linspace(0, len(times) - 1, STRIP_FRAMES).astype(int).tolist())
        tracked = _bar(self._track(video, windows, len(times)), "track", len(times), show=progress)
        with VideoWriter(
            folder / OVERLAY, sound=video.stereo(), has_sound=video.has_sound
        ) as writer:
            for number, (frame, masks, beliefs) in enumerate(tracked):
                writer.write(Frame(frame.time, overlay(frame.pixels, masks, colours)))
                for row, sentence in enumerate(sentences):
                    sentence.beliefs.append(beliefs[row])
                    gray = np.rint(255 * masks[row]).astype(np.uint8)
                    Image.fromarray(gray).save(folder / sentence.masks / f"{number:05d}.png")
                    if number in in_films:
                        own = overlay(frame.pixels, [masks[row]], [colours[row]])
                        films[row].append(thumbnail(own))
        texts = [sentence.text for sentence in sentences]
        film_strip(folder / STRIP, texts, films, times, [s.beliefs for s in sentences])

    def _track(
        self, video: Video, windows: list[Window], frames: int
    ) -> Iterator[tuple[Frame, list[np.ndarray], list[float]]]:
        """Every frame with the sentences' masks (H, W) and beliefs."""
        # Sentences that start in the same window share a stream.
        starting: dict[int, list[tuple[Window, list[int]]]] = {}
        firsts = [_first(windows, row) for row in range(len(windows[0].beliefs))]
        for window in windows:
            rows = [row for row, first in enumerate(firsts) if first is window]
            if rows:
                starting.setdefault(window.frame, []).append((window, rows))
        streams: list[tuple[list[int], MaskStream]] = []
        for number, frame in enumerate(video.frames()):
            size = frame.pixels.shape[:2]
            masks = [np.zeros(size, np.float32) for _ in firsts]
            beliefs = list(windows[min(int(frame.time // CLIP_SECONDS), len(windows) - 1)].beliefs)
            image = self._image(frame)
            outputs = [(rows, stream.step(number, image)) for rows, stream in streams]
            for window, rows in starting.get(number, ()):
                stream = MaskStream(self.model.sam2, tracker=self.tracker, frames=frames)
                outputs.append((rows, stream.start(number, image, window.prompts[rows])))
                streams.append((rows, stream))
            for rows, (logits, scores) in outputs:
                shown = probabilities(logits.cpu().numpy(), size=size, logits=True)
                for row, mask, belief in zip(rows, shown, _beliefs(scores), strict=True):
                    masks[row], beliefs[row] = mask, belief
            yield frame, masks, beliefs

    def _image(self, frame: Frame) -> Tensor:
        return preprocess(frame.pixels[None], self.model.sam2.image_size).to(self._device)


def each_second(frames: Iterable[Frame], *, last_seconds: float) -> Iterator[tuple[int, Frame]]:
    """The frame on show at each whole second, with its number.

    Args:
        last_seconds: how long the last frame is shown.
    """
    second, before = 0, None
    for number, frame in enumerate(frames):
        while before and second < frame.time - ROUNDING:
            yield before
            second += 1
        before = number, frame
    while before and second < before[1].time + last_seconds - ROUNDING:
        yield before
        second += 1


def _planned(texts: Sequence[str], windows: list[Window]) -> list[Sentence]:
    sentences = []
    for row, text in enumerate(texts):
        words = re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "blank"
        first = _first(windows, row)
        sentences.append(
            Sentence(
                text=text,
                masks=f"{MASKS}/{row}-{words}",
                colour=COLOURS[row % len(COLOURS)],
                prompted_at=first.start if first else None,
                windows=[window.beliefs[row] for window in windows],
                beliefs=[],
            )
        )
    return sentences


def _first(windows: list[Window], row: int) -> Window | None:
    """The first window in which the model believes that what a sentence means is there."""
    return next((window for window in windows if window.beliefs[row] > SHOWN), None)


def _beliefs(scores: Tensor) -> list[float]:
    return [round(belief, 4) for belief in scores.float().sigmoid().tolist()]


def _bar(items: Iterable[Item], name: str, total: int | None, *, show: bool) -> Iterable[Item]:
    return tqdm(items, name, total, unit="frame", disable=not show)
