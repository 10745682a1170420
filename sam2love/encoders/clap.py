"""CLAP: one vector per second of audio, in the space that it shares with text.

Shapes: N seconds, C mel spectrograms of a second (four if the model fuses longer audio, else one),
T windows, 64 mel bands; d_A features.

Each second is encoded on its own, as by VGGish, so that vector i belongs to frame i and sounds
nowhere else. CLAP has one vector for ten seconds: with the seconds around it for context, a second
would have nearly its neighbours' vector, and when an object sounds would be lost. The feature
extractor repeats the second until the ten are full, as CLAP was trained on shorter audio.

Source: Wu et al., Large-scale contrastive language-audio pretraining with feature fusion and
keyword-to-caption augmentation (2023), on feature fusion for variable-length audio.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from sam2love.encoders.audio import AudioEncoder
from sam2love.encoders.pretrained import NO_CODE, faults_of, load_pretrained

MODEL_TYPES = ("clap", "clap_audio_model")
"""Of the whole model, as published, and of its half for audio."""
EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Either has the feature extractor's settings: the one as published, the other if it was saved as
a part of a ClapProcessor."""


def load_clap(folder: Path, device: torch.device | str) -> AudioEncoder:
    """Load CLAP's half for audio and its feature extractor from a folder of `save_pretrained`.

    Features are the projected embeddings (`audio_embeds`), not scaled to length 1.

    Raises:
        FileNotFoundError: there are no settings of the feature extractor.
        ValueError: not a CLAP, weights are missing or of another shape, or model and feature
            extractor don't fit together.
    """
    with faults_of("transformers", folder):
        config = transformers.AutoConfig.from_pretrained(folder, **NO_CODE)
    if config.model_type not in MODEL_TYPES:
        raise ValueError(
            f"{folder / 'config.json'}: model_type is {config.model_type!r}, expected "
            f"{' or '.join(MODEL_TYPES)}; a folder for audio.weights holds a CLAP, a VGGish is a "
            "single file"
        )
    if not any((folder / name).is_file() for name in EXTRACTOR_FILES):
        raise FileNotFoundError(
            f"{folder / EXTRACTOR_FILES[0]}: no such file; expected the settings of the feature "
            "extractor next to the weights"
        )
    with faults_of("transformers", folder):
        extractor = transformers.ClapFeatureExtractor.from_pretrained(folder, **NO_CODE)
    model = load_pretrained(transformers.ClapAudioModelWithProjection, folder)
    try:  # before the first clip, and on the CPU, where no fault of a GPU is taken for this one
        clap_encoder(model, extractor).encode(torch.zeros(1), extractor.sampling_rate, seconds=1)
    except Exception as error:  # odd values in a configuration raise all kinds of errors
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{folder}: its feature extractor does not fit its model ({reason}); both "
            "configurations must be those that the weights were published with"
        ) from None
    return clap_encoder(model.to(device), extractor, device=device)


def clap_encoder(model: Any, extractor: Any, *, device: torch.device | str = "cpu") -> AudioEncoder:
    """Wrap a ClapAudioModelWithProjection that is in evaluation mode on `device`."""
    rate_hz = extractor.sampling_rate

    def preprocess(seconds: Tensor) -> Tensor:
        extracted = extractor(list(seconds.numpy()), sampling_rate=rate_hz, return_tensors="pt")
        return extracted["input_features"]  # (N, C, T, 64)

    def embed(mels: Tensor) -> Tensor:
        # No second is longer than the model's ten. The extractor marks a random one of a batch as
        # longer if none is, for models that fuse; that one's vector would depend on chance.
        longer = torch.zeros(len(mels), 1, dtype=torch.bool)
        return model(input_features=mels, is_longer=longer).audio_embeds

    return AudioEncoder(
        embed,
        preprocess,
        kind="CLAP",
        device=device,
        sample_rate_hz=rate_hz,
        dim=model.config.projection_dim,
    )
