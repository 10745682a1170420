"""One vector per second of audio: by VGGish, with the published front end and weights, or CLAP.

Shapes: N seconds, 96 frames of 10 ms, 64 mel bands; d_A features.

Source: Hershey et al., CNN architectures for large-scale audio classification (2017), and the
constants of its released code.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from sam2love.dataset import refavs
from sam2love.device import mixed_precision
from sam2love.encoders.tensors import misfit, read_tensors, select
from sam2love.encoders.weights import fetch

SAMPLE_RATE_HZ = 16000
RATE_STEP_HZ = 25
"""Other rates are rounded to a multiple of this: the resampling filter grows with the rates over
their greatest common divisor, to gigabytes for 11127 Hz. All usual rates are multiples."""
RESAMPLING = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 64,
    "rolloff": 1.0,
    "beta": 12.0,
}
"""Flat to 0.1 dB up to HIGHEST_HZ, with aliases there below -100 dB. With torchaudio's defaults the
highest bands lose up to 4 dB, and a tone of 8.5 kHz is aliased at -11 dB."""
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
FRAMES, BANDS = 96, 64
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01

PUBLISHED_CHANNELS = (64, 128, 256, 256, 512, 512)
PUBLISHED_EMBEDDINGS = (4096, 4096, 128)
CONVOLUTIONS, LINEARS = (0, 3, 6, 8, 11, 13), (0, 2, 4)
"""Their positions in `features` and `embeddings`, without the last ReLU, `embeddings.5`."""

TORCHAUDIO = {"features_network": "features", "embedding_network": "embeddings"}
"""torchaudio's names of the two parts."""


class VGGish(nn.Module):
    """Map log mel (N, 96, 64) to features (N, d_A), before the last ReLU and without PCA.

    Args:
        channels: of the six convolutions.
        embeddings: widths of the three linear layers; the last one is d_A.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = PUBLISHED_CHANNELS,
        embeddings: tuple[int, ...] = PUBLISHED_EMBEDDINGS,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for i, outputs in enumerate(channels):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            if i not in (2, 4):
                layers.append(nn.MaxPool2d(2))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        first, second, last = embeddings
        self.dim = last
        self.embeddings = nn.Sequential(
            nn.Linear(channels[-1] * (FRAMES // 16) * (BANDS // 16), first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, last),
        )

    def forward(self, log_mels: Tensor) -> Tensor:
        maps = self.features(log_mels.unsqueeze(1))  # (N, C, 6, 4)
        # The weights come from TensorFlow, where channels are last.
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))


class AudioEncoder:
    """Encode the audio of a clip as one vector per second.

    Args:
        model: maps pre-processed seconds to features (N, d_A); both on `device`.
        preprocess: maps seconds of audio, (N, sample_rate_hz) float32 on the CPU, to what `model`
            takes.
        kind: a description, for provenance.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        preprocess: Callable[[Tensor], Tensor],
        *,
        kind: str,
        device: torch.device | str,
        sample_rate_hz: int,
        dim: int,
    ) -> None:
        self._model = model
        self._preprocess = preprocess
        self._device = torch.device(device)
        self.kind = kind
        self.sample_rate_hz = sample_rate_hz
        """Audio is resampled to this rate."""
        self.dim = dim
        """d_A."""

    @torch.inference_mode()
    def encode(
        self, samples: np.ndarray | Tensor, sample_rate_hz: int, *, seconds: int = refavs.FRAMES
    ) -> Tensor:
        """Encode the audio of a clip (n,), truncated or padded with silence to its length.

        Returns:
            (seconds, d_A) float32 on the CPU.
        """
        length = seconds * self.sample_rate_hz
        waveform = resampled(samples, sample_rate_hz, self.sample_rate_hz)[:length]
        waveform = nn.functional.pad(waveform, (0, length - len(waveform)))
        inputs = self._preprocess(waveform.view(seconds, self.sample_rate_hz)).to(self._device)
        with mixed_precision(self._device):
            features = self._model(inputs)
        return features.float().cpu()


def load_audio_encoder(
    weights: str | Path,
    digest: str,
    *,
    post_relu: bool = False,
    device: torch.device | str = "cpu",
) -> AudioEncoder:
    """Load a VGGish of any size from a file, .safetensors or .pth as published, CLAP from a folder.

    Args:
        weights: a path, an https URL or a hub id.
        digest: the expected SHA-256 of the weights.
        post_relu: whether VGGish's features are taken after its last ReLU.

    Raises:
        FileNotFoundError, ValueError: no such weights, of another digest, not of a VGGish or CLAP,
            or `post_relu` with CLAP.
    """
    path = fetch(weights, digest)
    if path.is_dir():
        # Imported only now: it needs this module, and transformers takes seconds.
        from sam2love.encoders.clap import load_clap

        if post_relu:
            raise ValueError(
                f"audio.post_relu is true, but {path} is no VGGish, which is a single file and "
                "alone has a last ReLU; set it to false in params.yaml"
            )
        return load_clap(path, device)
    parts = (*TORCHAUDIO.values(), *TORCHAUDIO)
    names = [f"{part}.{i}.bias" for part in parts for i in CONVOLUTIONS + LINEARS]
    model = vggish_from_state(select(read_tensors(path), names, origin=path), origin=str(path))
    return vggish_encoder(model.to(device).eval(), post_relu=post_relu, device=device)


def vggish_encoder(
    model: VGGish, *, post_relu: bool = False, device: torch.device | str = "cpu"
) -> AudioEncoder:
    """Wrap a VGGish that is in evaluation mode on `device`."""
    return AudioEncoder(
        (lambda log_mels: model(log_mels).relu()) if post_relu else model,
        lambda seconds: log_mel(seconds.flatten(), SAMPLE_RATE_HZ),  # (N, 96, 64)
        kind="VGGish",
        device=device,
        sample_rate_hz=SAMPLE_RATE_HZ,
        dim=model.dim,
    )


def vggish_from_state(state: dict[str, Tensor], *, origin: str = "the state") -> VGGish:
    """Build a VGGish of the size that its weights have.

    Args:
        state: keys `features.*` and `embeddings.*`, or torchaudio's `features_network.*` and
            `embedding_network.*`.
        origin: for error messages.

    Raises:
        ValueError: not the weights of a VGGish.
    """
    parts = {name: name.partition(".") for name in state}
    state = {f"{TORCHAUDIO.get(a, a)}.{b}": state[name] for name, (a, _, b) in parts.items()}
    try:
        channels = tuple(len(state[f"features.{i}.bias"]) for i in CONVOLUTIONS)
        embeddings = tuple(len(state[f"embeddings.{i}.bias"]) for i in LINEARS)
    except KeyError as error:
        raise ValueError(
            f"{origin}: not the weights of a VGGish (missing: {error.args[0]})"
        ) from None
    model = VGGish(channels, embeddings)
    if reason := misfit(model, state):
        raise ValueError(f"{origin}: not the weights of a VGGish ({reason})")
    model.load_state_dict(state)
    return model


# ---- the front end ------------------------------------------------------------------------------


def log_mel(waveform: np.ndarray | Tensor, sample_rate_hz: int) -> Tensor:
    """Compute VGGish's input for each second of a waveform (n,) in [-1, 1], n >= 1.

    The last second is padded with silence. Of the 98 windows in a second, 96 are used.

    Returns:
        (N, 96, 64) float32, the logarithm of mel bands of the magnitude spectrum.
    """
    waveform = resampled(waveform, sample_rate_hz)
    missing = -len(waveform) % SAMPLE_RATE_HZ
    seconds = nn.functional.pad(waveform, (0, missing)).view(-1, SAMPLE_RATE_HZ)  # (N, 16000)
    windows = seconds.unfold(1, WINDOW, HOP)[:, :FRAMES]  # (N, 96, 400)
    hann = torch.hann_window(WINDOW, periodic=True)
    magnitudes = torch.fft.rfft(windows * hann, FFT).abs()  # (N, 96, 257)
    return (magnitudes @ mel_bands() + LOG_OFFSET).log()


def mel_bands() -> Tensor:
    """Return triangular bands, (257, 64) float32, whose sides are straight in mel.

    Those of torchaudio are straight in Hz.
    """
    bins = _mel(torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT // 2 + 1, dtype=torch.float64))
    low, high = _mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - lower) / (centre - lower)
    falling = (upper - bins[:, None]) / (upper - centre)
    bands = torch.minimum(rising, falling).clamp(min=0)
    bands[0] = 0  # no band includes the DC component
    return bands.float()


def _mel(hz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hz / 700)


def resampled(
    samples: np.ndarray | Tensor, sample_rate_hz: int, target_hz: int = SAMPLE_RATE_HZ
) -> Tensor:
    """Resample audio (n,) to a network's rate, by default VGGish's 16 kHz: (m,) float32."""
    waveform = torch.as_tensor(samples, dtype=torch.float32)
    rate = max(1, round(sample_rate_hz / RATE_STEP_HZ)) * RATE_STEP_HZ
    return resample(waveform, rate, target_hz, **RESAMPLING)
