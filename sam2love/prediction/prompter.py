"""From sentences, pictures and sound to prompts for SAM 2, and from prompts to streams of masks.

Shapes: B sentences, P tokens, N pictures, C channels, H x W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sam2love.dataset.refavs import FRAMES
from sam2love.device import use_device
from sam2love.encoders.audio import AudioEncoder, load_audio_encoder
from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.encoders.vision import VisionEncoder, load_vision_encoder
from sam2love.encoders.weights import DEFAULT
from sam2love.evaluation.metrics import probabilities
from sam2love.model import SAM2Love
from sam2love.sam.build import SAM2Base
from sam2love.sam.decode import Prompts, click
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.sam.propagate import MaskStream, build_tracker
from sam2love.stores.features import Features


@dataclass(frozen=True)
class Read:
    """Sentences as the text encoder returns them.

    tokens: (B, P, d_T).
    mask: (B, P) bool, False for padding.
    """

    tokens: Tensor
    mask: Tensor


class Prompter:
    """A trained model with its encoders.

    Args:
        tracker: segments the frames after the prompted one; see `sam.propagate`.
        gate: prompt only with a belief above 0.5; see `params.Propagate`.
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
    def from_pretrained(cls, source: str | Path = DEFAULT, *, device: str | None = None) -> Self:
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

    def read(self, texts: Sequence[str]) -> Read:
        """Encode sentences."""
        tokens, lengths = self.text.encode(list(texts))
        longest = int(lengths.max())
        return Read(tokens[:, :longest], torch.arange(longest)[None] < lengths[:, None])

    def truncation_notes(self, texts: Sequence[str]) -> Iterator[str]:
        """Yield a note for each sentence with more tokens than the model reads."""
        for text in texts:
            if cut := self.text.truncation(text):
                yield (
                    f'"{shorten(text, 40, placeholder="...")}" has {cut[0]} tokens, of which the '
                    f'model reads {self.text.max_tokens}: "{cut[1]}"'
                )

    @torch.inference_mode()
    def prompts(
        self,
        read: Read,
        pictures: Sequence[np.ndarray],
        sound: np.ndarray,
        rate_hz: int,
        *,
        first: bool = False,
    ) -> Prompts:
        """Return prompts for some of the pictures, as `SAM2Love.prompts` chooses them.

        Args:
            pictures: (H, W, 3) uint8 RGB, one per second.
            sound: (n,) float32 in [-1, 1], from the first picture on.
            first: prompt the first picture in any case.
        """
        seen = torch.cat([self.vision.preprocess(picture[None]) for picture in pictures])
        clip = (
            self.audio.encode(sound, rate_hz, seconds=self.seconds),
            *self.vision.encode(seen),
        )
        audio, patches, cls = (part.expand(len(read.tokens), *part.shape) for part in clip)
        features = Features(audio, patches, cls, read.tokens, read.mask)
        features = features.to(self._device)
        if first:
            return self.first_picture(self.model(features).prompts)
        return self.model.prompts(features)

    def first_picture(self, tokens: Tensor) -> Prompts:
        """Return prompts (B, 1, C) as prompts for the first picture, of unknown presence."""
        frame = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
        return Prompts(tokens, frame, None)

    @torch.inference_mode()
    def click(self, point: tuple[int, int], picture: np.ndarray) -> Tensor:
        """Return the prompt (1, 1, C) of a positive click on a pixel x, y of a picture.

        It is for the tracker, see `track`, whose heads may still know clicks.

        Raises:
            ValueError: the pixel is outside the picture.
        """
        sam2, (height, width) = self.tracker or self.model.sam2, picture.shape[:2]
        x, y = point
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(
                f"point {x},{y}: outside the picture of {width} x {height} pixels; expected x from "
                f"0 to {width - 1} and y from 0 to {height - 1}"
            )
        inside = torch.tensor([[x / width, y / height]]) * sam2.image_size
        return click(sam2, inside.to(self._device))

    def levels(self, picture: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a picture with SAM 2, up to the layers in which model and tracker may differ."""
        sam2 = self.model.sam2
        image = preprocess(picture[None], sam2.image_size).to(self._device)
        return encode_frames(sam2, image, before_high_res_convs=True)

    def beliefs(
        self, prompts: Prompts, pictures: Sequence[np.ndarray], *, clicked: bool = False
    ) -> list[float]:
        """Return B beliefs in [0, 1], see `outcome.BELIEF_MEANS`.

        Args:
            pictures: those that were prompted.
            clicked: see `track`.
        """
        presence = prompts.presence
        if presence is None:  # and so all are prompted on the first picture
            stream = self.track(prompts.tokens, frames=1, clicked=clicked)
            _, presence = stream.step(self.levels(pictures[0]))
        return beliefs_of(presence)

    def track(self, prompts: Tensor, *, frames: int, clicked: bool = False) -> MaskStream:
        """Return a stream of masks of one video, see `MaskStream`.

        Args:
            clicked: the prompts are clicks, not tokens.
        """
        sam2 = (clicked and self.tracker) or self.model.sam2
        same_clip = torch.zeros(len(prompts), dtype=torch.int64, device=self._device)
        return MaskStream(sam2, prompts, same_clip, frames=frames, tracker=self.tracker)


def masks_of(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return the foreground probability of each pixel, (B, H, W) float32, from logits."""
    return probabilities(logits.cpu().numpy(), size=size, logits=True)


def beliefs_of(scores: Tensor) -> list[float]:
    """Return logits of presence (B,) as beliefs in [0, 1], see `outcome.BELIEF_MEANS`."""
    return [round(belief, 4) for belief in scores.float().sigmoid().tolist()]
