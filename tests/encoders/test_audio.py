"""VGGish against its published reference, reimplemented in numpy, and its published sizes."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2love.encoders import audio
from sam2love.encoders.tensors import misfit
from sam2love.encoders.weights import digest
from tests import tiny


def reference_mel_bands() -> np.ndarray:
    """The released code's matrix, band by band: triangles on the mel axis, without DC."""
    mel = lambda hz: 1127.0 * np.log(1.0 + hz / 700.0)  # noqa: E731
    bins = mel(np.arange(257) * 16000 / 512)
    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    bands = np.zeros((257, 64))
    for band in range(64):
        left, centre, right = edges[band : band + 3]
        for i in range(1, 257):
            slope = min((bins[i] - left) / (centre - left), (right - bins[i]) / (right - centre))
            bands[i, band] = max(0.0, slope)
    return bands


def reference_log_mel(second: np.ndarray) -> np.ndarray:
    """Log mel of a second of 16 kHz audio, window by window: (96, 64)."""
    bands = reference_mel_bands()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    rows = []
    for frame in range(96):
        window = second[frame * 160 : frame * 160 + 400] * hann
        rows.append(np.abs(np.fft.rfft(window, 512)) @ bands)
    return np.log(np.array(rows) + 0.01)


def test_mel_bands_are_the_published_ones():
    bands = audio.mel_bands()
    assert bands.shape == (257, 64)
    np.testing.assert_allclose(bands.numpy(), reference_mel_bands(), atol=1e-6)


def test_log_mel_is_the_published_one():
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * 16000).astype(np.float32)
    found = audio.log_mel(sound, 16000)
    assert found.shape == (3, 96, 64)
    assert found.dtype == torch.float32
    for second in range(3):
        expected = reference_log_mel(sound[second * 16000 : (second + 1) * 16000])
        np.testing.assert_allclose(found[second].numpy(), expected, atol=1e-4)


def test_silence_and_the_loudest_band():
    silence = audio.log_mel(np.zeros(16000, np.float32), 16000)
    np.testing.assert_allclose(silence.numpy(), np.log(0.01), rtol=1e-6)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    loudest = audio.log_mel(tone, 16000)[0].mean(dim=0).argmax()
    centres = np.linspace(*[1127 * np.log1p(hz / 700) for hz in (125.0, 7500.0)], 66)[1:-1]
    assert loudest == np.abs(centres - 1127 * np.log1p(1000 / 700)).argmin()


@pytest.mark.parametrize(("samples", "seconds"), [(1, 1), (16000, 1), (16001, 2)])
def test_log_mel_pads_the_last_second(samples, seconds):
    assert audio.log_mel(np.zeros(samples, np.float32), 16000).shape == (seconds, 96, 64)


@pytest.mark.parametrize("sample_rate_hz", [8000, 11127, 44100, 44101, 48000])
def test_other_sample_rates_give_the_same_log_mel(sample_rate_hz):
    def tone(rate: int) -> np.ndarray:
        return 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate).astype(np.float32)

    found = audio.log_mel(tone(sample_rate_hz), sample_rate_hz)[:2]  # 44101 Hz: one sample more
    expected = audio.log_mel(tone(16000), 16000)
    loud = expected > expected.max() - 3
    np.testing.assert_allclose(found[loud].numpy(), expected[loud].numpy(), atol=0.05)


def spectrum(tone_hz: float, rate_hz: int) -> np.ndarray:
    """Amplitudes up to 7.5 kHz, 2 Hz apart, of a resampled tone of amplitude 1."""
    tone = np.sin(2 * np.pi * tone_hz * np.arange(3 * rate_hz) / rate_hz)
    middle = audio.resampled(tone, rate_hz).numpy()[16_000:24_000] * np.blackman(8_000)
    return np.abs(np.fft.rfft(middle) / np.blackman(8_000).sum() * 2)[: 7_500 // 2 + 1]


@pytest.mark.parametrize(
    ("rate_hz", "top_hz"),
    [(44_100, 7_500), (48_000, 7_500), (22_050, 7_500), (32_000, 7_500), (96_000, 7_500),
     (37_800, 7_500), (12_000, 5_600), (11_025, 5_100), (8_000, 3_750)],
)  # fmt: skip
def test_resampling_is_flat_and_free_of_aliases_up_to_the_highest_band(rate_hz, top_hz):
    for tone_hz in [*range(100, top_hz, 822), 6_500 if top_hz > 6_500 else 3_500, top_hz]:
        amplitudes = spectrum(tone_hz, rate_hz)
        near = abs(np.arange(len(amplitudes)) * 2 - tone_hz) <= 10
        assert 20 * np.log10(amplitudes[near].max()) == pytest.approx(0, abs=0.1), tone_hz
        assert 20 * np.log10(amplitudes[~near].max()) < -60, tone_hz
    for tone_hz in np.linspace(8_000, rate_hz / 2, 12) if rate_hz > 16_000 else ():
        assert 20 * np.log10(spectrum(tone_hz, rate_hz).max() + 1e-9) < -60, tone_hz


PUBLISHED = {
    "features.0.weight": (64, 1, 3, 3),
    "features.0.bias": (64,),
    "features.3.weight": (128, 64, 3, 3),
    "features.3.bias": (128,),
    "features.6.weight": (256, 128, 3, 3),
    "features.6.bias": (256,),
    "features.8.weight": (256, 256, 3, 3),
    "features.8.bias": (256,),
    "features.11.weight": (512, 256, 3, 3),
    "features.11.bias": (512,),
    "features.13.weight": (512, 512, 3, 3),
    "features.13.bias": (512,),
    "embeddings.0.weight": (4096, 12288),
    "embeddings.0.bias": (4096,),
    "embeddings.2.weight": (4096, 4096),
    "embeddings.2.bias": (4096,),
    "embeddings.4.weight": (128, 4096),
    "embeddings.4.bias": (128,),
}
"""vggish-10086976.pth."""


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        published = {name: torch.empty(shape) for name, shape in PUBLISHED.items()}
        state = audio.VGGish().state_dict()
        assert {name: tuple(value.shape) for name, value in state.items()} == PUBLISHED
        assert misfit(audio.VGGish(), published) == ""


def test_network_is_the_reference_maths(vggish_file):
    """Layer by layer, in the channels-last order that the weights were trained with."""
    state = load_file(vggish_file)
    x = torch.randn(2, 96, 64)
    maps = x[:, None]
    for i in (0, 3, 6, 8, 11, 13):
        maps = torch.conv2d(maps, state[f"features.{i}.weight"], state[f"features.{i}.bias"], 1, 1)
        maps = maps.clamp(min=0)
        if i in (0, 3, 8, 13):
            n, c, h, w = maps.shape
            maps = maps.reshape(n, c, h // 2, 2, w // 2, 2).amax(dim=(3, 5))
    flat = torch.stack([maps[:, :, h, w] for h in range(6) for w in range(4)], dim=1).flatten(1)
    for i in (0, 2, 4):
        flat = flat @ state[f"embeddings.{i}.weight"].T + state[f"embeddings.{i}.bias"]
        flat = flat.clamp(min=0) if i < 4 else flat
    found = audio.vggish_from_state(state)(x)
    torch.testing.assert_close(found, flat, atol=1e-5, rtol=1e-4)


def test_encodes_a_clip_second_by_second(vggish_file):
    encoder = audio.load_audio_encoder(vggish_file, digest(vggish_file))
    sound = np.random.default_rng(1).normal(0, 0.1, 160000).astype(np.float32)
    features = encoder.encode(sound, 16000)
    assert features.shape == (10, encoder.dim) == (10, 12)
    assert features.dtype == torch.float32
    sound[3 * 16000 : 4 * 16000] = 0
    changed = (encoder.encode(sound, 16000) != features).any(dim=1)
    assert changed.tolist() == [second == 3 for second in range(10)]


@pytest.mark.parametrize("samples", [1, 47123, 159999, 160001, 200000])
def test_any_length_gives_ten_seconds(vggish_file, samples):
    encoder = audio.load_audio_encoder(vggish_file, digest(vggish_file))
    sound = np.random.default_rng(1).normal(0, 0.1, 200000).astype(np.float32)
    whole = np.pad(sound[:samples], (0, 200000 - samples))
    found = encoder.encode(sound[:samples], 16000)
    torch.testing.assert_close(found, encoder.encode(whole, 16000))


def test_before_or_after_the_last_relu(vggish_file):
    before, after = (
        audio.load_audio_encoder(vggish_file, digest(vggish_file), post_relu=post_relu)
        for post_relu in (False, True)
    )
    sound = np.random.default_rng(1).normal(0, 0.1, 160000).astype(np.float32)
    features = before.encode(sound, 16000)
    assert (features < 0).any()
    torch.testing.assert_close(after.encode(sound, 16000), features.clamp(min=0))


def test_torchaudios_names_and_pth_files(vggish_file, tmp_path):
    state = load_file(vggish_file)
    renamed = {
        name.replace("features.", "features_network.").replace(
            "embeddings.", "embedding_network."
        ): value
        for name, value in state.items()
    }
    save_file(renamed, tmp_path / "renamed.safetensors")
    tiny.make_vggish(tmp_path / "vggish.pth")
    sound = np.random.default_rng(1).normal(0, 0.1, 160000).astype(np.float32)
    expected, *others = (
        audio.load_audio_encoder(path, digest(path)).encode(sound, 16000)
        for path in (vggish_file, tmp_path / "renamed.safetensors", tmp_path / "vggish.pth")
    )
    for other in others:
        torch.testing.assert_close(other, expected, atol=0, rtol=0)


def test_refuses_other_weights(vggish_file, tmp_path):
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        audio.load_audio_encoder(vggish_file, "0" * 64)
    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors: no tensor has a name of this"):
        audio.load_audio_encoder(path, digest(path))


def without(state: dict, name: str) -> dict:
    return {key: state[key] for key in state if key != name}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda state: state | {"extra.bias": torch.zeros(1)}, r"unknown: extra\.bias"),
        (lambda state: without(state, "embeddings.0.weight"), r"missing: embeddings\.0\.weight"),
        (lambda state: without(state, "features.6.bias"), r"missing: features\.6\.bias"),
        (
            lambda state: state | {"features.3.weight": torch.zeros(2, 2, 5, 5)},
            r"of another shape: features\.3\.weight \(2, 2, 5, 5\) for \(2, 2, 3, 3\)",
        ),
    ],
)
def test_names_what_is_wrong(vggish_file, damage, named):
    with pytest.raises(ValueError, match=rf"not the weights of a VGGish \({named}\)$"):
        audio.vggish_from_state(damage(load_file(vggish_file)))
