"""Change one modality of the input at a time, as real inputs through the frozen encoders.

Blanked is what the encoders make of silence, of uniformly gray frames and of an empty sentence, of
which only the special tokens are left. Swapped is another clip's sound or frames, or another
sentence. SAM 2's embeddings stay the clip's own: only what the fusion reads changes.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch

from sam2love.dataset.index import Index
from sam2love.encoders.audio import SAMPLE_RATE_HZ, load_audio_encoder
from sam2love.encoders.text import load_text_encoder
from sam2love.encoders.vision import load_vision_encoder
from sam2love.evaluation.reliance import INTACT, MODALITIES
from sam2love.params import Params
from sam2love.stores.features import FeatureReader, Features

GRAY = 128
SEED = 0
"""Of the pairing; not a parameter, so that runs are compared on the same pairs."""
PARTS = {"audio": ["audio"], "text": ["text", "text_mask"], "vision": ["patches", "cls"]}
"""The features of each modality."""


class ChangedInputs:
    """The features of rows, intact and with one modality blanked or swapped.

    Args:
        reader: reads the features of the rows swapped in.
        donors: by row number, the row swapped in: key and exp.
        blank: from `encode_blank`.
    """

    def __init__(self, reader: FeatureReader, *, donors: pd.DataFrame, blank: Features) -> None:
        self._reader, self._donors, self._blank = reader, donors, blank

    def __call__(self, rows: pd.DataFrame, features: Features) -> Iterator[tuple[str, Features]]:
        """Yield each condition's name and the features of B rows of the expression table."""
        donors = self._donors.loc[rows["row"]]
        swapped = self._reader.features(donors).to(features.audio.device)
        blank = Features(*(part.expand(len(rows), *part.shape[1:]) for part in self._blank))
        yield INTACT, features
        for modality, (_, blanked_name, swapped_name) in MODALITIES.items():
            for name, other in ((blanked_name, blank), (swapped_name, swapped)):
                parts = {part: getattr(other, part) for part in PARTS[modality]}
                yield name, features._replace(**parts)


def draw_donors(rows: pd.DataFrame, index: Index) -> pd.DataFrame:
    """Pair each row with a clip of other frames among the rows', and with another sentence.

    Returns:
        key and exp by row number. Where all rows have the same frames, or the same sentence, it
        is the row's own.
    """
    frames_key = index.clips.set_index("key")["frames_key"]
    frames = rows["key"].map(frames_key)
    key_of_frames = dict(zip(frames[::-1], rows["key"][::-1], strict=True))  # the first of each
    other_frames, other_sentence = _partners(frames), _partners(rows["exp"])
    return pd.DataFrame(
        {
            "key": [key_of_frames[other_frames[name]] for name in frames],
            "exp": [other_sentence[text] for text in rows["exp"]],
        },
        index=rows["row"],
    )


def _partners(values: Iterable[str]) -> dict[str, str]:
    """Pair each distinct value with the next one in a seeded cycle of all."""
    distinct = sorted(set(values))
    cycle = [distinct[i] for i in np.random.default_rng(SEED).permutation(len(distinct))]
    return dict(zip(cycle, [*cycle[1:], *cycle[:1]], strict=True))


def encode_blank(params: Params, *, device: torch.device) -> Features:
    """Encode silence, gray frames and an empty sentence: features on the device, B = 1.

    Raises:
        FileNotFoundError, ValueError: an encoder's weights are missing or of another digest.
    """
    seconds = params.data.frames
    audio = load_audio_encoder(
        params.audio.weights,
        params.audio.digest,
        post_relu=params.audio.post_relu,
        device=device,
    )
    silence = audio.encode(np.zeros(SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ, seconds=seconds)
    vision = load_vision_encoder(params.vision.weights, params.vision.digest, device=device)
    gray = np.full((1, vision.image_size, vision.image_size, 3), GRAY, np.uint8)
    patches, cls = (
        part.expand(seconds, *part.shape[1:]) for part in vision.encode(vision.preprocess(gray))
    )
    text = load_text_encoder(
        params.text.weights,
        params.text.digest,
        max_tokens=params.text.max_tokens,
        device=device,
    )
    tokens, lengths = text.encode([""])
    length = int(lengths[0])
    text_mask = torch.ones(1, length, dtype=torch.bool)
    blank = Features(silence[None], patches[None], cls[None], tokens[:, :length], text_mask)
    return blank.to(device)
