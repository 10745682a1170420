"""VGGish: a vector for each second of sound, with the published front end and weights.

Shapes: N seconds, 96 frames of 10 ms, 64 mel bands; d_A features.

Source: Hershey et al., CNN architectures for large-scale audio classification (2017), and the
constants of its released code.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from sam2love.dataset.refavs import CLIP_SECONDS
from sam2love.device import mixed_precision
from sam2love.encoders.tensors import misfit, read_tensors, select
from sam2love.encoders.weights import fetch

SAMPLE_RATE_HZ = 16000
RATE_STEP_HZ = 25
"""Other rates are taken as the nearest multiple: the filter that resamples has as many taps as both
rates over their common divisor, gigabytes for 11127 Hz. All usual rates are multiples."""
RESAMPLING = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 64,
    "rolloff": 1.0,
    "beta": 12.0,
}
"""Level to 0.1 dB up to HIGHEST_HZ, and aliases there are under -100 dB. With torchaudio's defaults
the highest bands lose up to 4 dB, and a tone of 8.5 kHz comes back at -11 dB."""
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
FRAMES, BANDS = 96, 64
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01

PUBLISHED_CHANNELS = (64, 128, 256, 256, 512, 512)
PUBLISHED_EMBEDDINGS = (4096, 4096, 128)
CONVOLUTIONS, LINEARS = (0, 3, 6, 8, 11, 13), (0, 2, 4)
"""Where they stand in `features` and `embeddings`; the last ReLU, `embeddings.5`, is separate."""


TORCHAUDIO = {"features_network": "features", "embedding_network": "embeddings"}
"""What torchaudio calls the two parts."""


class VGGish(nn.Module):
    """The network, (N, 96, 64) log mel to (N, d_A), before the last ReLU and without PCA.

    Args:
        channels: of the six convolutions.
        embeddings: widths of the three linear layers, the last is d_A.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = PUBLISHED_CHANNELS,
        embeddings: tuple[int, ...] = PUBLISHED_EMBEDDINGS,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for i, after in enumerate(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            if i not in (2, 4):
                layers.append(nn.MaxPool2d(2))
            before = after
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
        # The weights come from TensorFlow, whose maps have their channels last.
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))


class AudioEncoder:
    """The sound of a clip as a vector a second."""

    def __init__(self, model: VGGish, *, post_relu: bool) -> None:
        self._model = model
        self._post_relu = post_relu
        self._device = next(model.parameters()).device
        self.dim = model.dim
        """d_A."""

    @torch.inference_mode()
    def encode(self, samples: np.ndarray | Tensor, sample_rate_hz: int) -> Tensor:
        """Encode the sound of a clip (n,), cut or filled up with silence to 10 s.

        Returns:
            (10, d_A) float32 on the CPU.
        """
        waveform = resampled(samples, sample_rate_hz)[: CLIP_SECONDS * SAMPLE_RATE_HZ]
        missing = CLIP_SECONDS * SAMPLE_RATE_HZ - len(waveform)
        waveform = nn.functional.pad(waveform, (0, missing))
        log_mels = log_mel(waveform, SAMPLE_RATE_HZ).to(self._device)
        with mixed_precision(self._device):
            vectors = self._model(log_mels)
        return (vectors.relu() if self._post_relu else vectors).float().cpu()


def load_audio_encoder(
    weights: str | Path,
    digest: str,
    *,
    post_relu: bool = False,
    device: torch.device | str = "cpu",
) -> AudioEncoder:
    """Load VGGish of any size, from .safetensors or from a published .pth.

    Args:
        weights: a path or an https address.
        digest: SHA-256 that they must have.

    Raises:
        FileNotFoundError, ValueError: no such weights, others than the digest says, or not VGGish.
    """
    path = fetch(weights, digest)
    parts = (*TORCHAUDIO.values(), *TORCHAUDIO)
    names = [f"{part}.{i}.bias" for part in parts for i in CONVOLUTIONS + LINEARS]
    model = vggish_from_state(select(read_tensors(path), names, origin=path), origin=str(path))
    return AudioEncoder(model.to(device).eval(), post_relu=post_relu)


def vggish_from_state(state: dict[str, Tensor], *, origin: str = "the state") -> VGGish:
    """A VGGish of the size that the weights have, with these weights.

    Args:
        state: names `features.*` and `embeddings.*`, or, as torchaudio calls them,
            `features_network.*` and `embedding_network.*`.

    Raises:
        ValueError: they are not VGGish's.
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
    """VGGish's input for each second of a waveform (n,) in [-1, 1].

    The waveform holds a sample at least; its last second is filled up with silence. A second has
    98 windows, of which 96 are used.

    Returns:
        (N, 96, 64) float32, the logarithm of mel bands of the magnitude spectrum.
    """
    waveform = resampled(waveform, sample_rate_hz)
    missing = -len(waveform) % SAMPLE_RATE_HZ
    seconds = nn.functional.pad(waveform, (0, missing)).view(-1, SAMPLE_RATE_HZ)
    windows = seconds.unfold(1, WINDOW, HOP)[:, :FRAMES]  # (N, 96, 400)
    hann = torch.hann_window(WINDOW, periodic=True)
    magnitudes = torch.fft.rfft(windows * hann, FFT).abs()  # (N, 96, 257)
    return (magnitudes @ mel_bands() + LOG_OFFSET).log()


def mel_bands() -> Tensor:
    """Triangular bands, linear on the mel scale: (257, 64) float32.

    Unlike torchaudio's, whose triangles have straight sides in Hz, these are straight in mel.
    """
    bins = _mel(torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT // 2 + 1, dtype=torch.float64))
    low, high = _mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - lower) / (centre - lower)
    falling = (upper - bins[:, None]) / (upper - centre)
    bands = torch.minimum(rising, falling).clamp(min=0)
    bands[0] = 0  # the constant part of the sound belongs to no band
    return bands.float()


def _mel(hz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hz / 700)


def resampled(samples: np.ndarray | Tensor, sample_rate_hz: int) -> Tensor:
    """Resample sound (n,) to the network's 16 kHz: (m,) float32."""
    waveform = torch.as_tensor(samples, dtype=torch.float32)
    rate = max(1, round(sample_rate_hz / RATE_STEP_HZ)) * RATE_STEP_HZ
    return resample(waveform, rate, SAMPLE_RATE_HZ, **RESAMPLING)
