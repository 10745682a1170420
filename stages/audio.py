"""Encode the audio of every clip with VGGish or CLAP, one vector per second.

Reads the index and the clips' audio.wav; writes features/audio.zarr: `audio` (frames, d_A) float32
by clip key.

    dvc repro audio
"""

from pathlib import Path

import torch

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.encoders.audio import load_audio_encoder
from sam2love.params import load_params
from sam2love.stores import provenance
from sam2love.stores.store import ArraySpec, fill_store
from stages import run


def main(root: Path, index_folder: Path, out: Path) -> None:
    """Encode the audio of every clip in the index."""
    params = load_params()
    device = start_device(params.runtime)
    index = read_index(index_folder)
    clips, seconds = index.clips, params.data.frames
    encoder = load_audio_encoder(
        params.audio.weights,
        params.audio.digest,
        post_relu=params.audio.post_relu,
        device=device,
    )

    def load(keys: list[str]) -> list:
        return [refavs.read_audio(root, key) for key in keys]

    def encode(waveforms: list) -> dict:
        features = [encoder.encode(*waveform, seconds=seconds) for waveform in waveforms]
        return {"audio": torch.stack(features).numpy()}  # (B, seconds, d_A)

    fill_store(
        out,
        specs=[
            ArraySpec(
                "audio",
                (seconds, encoder.dim),
                "float32",
                512,
                f"{encoder.kind}, (seconds, d_A)",
            )
        ],
        ids=clips["key"].tolist(),
        provenance=provenance.of_features(
            "audio",
            params,
            index,
            encoder=encoder.kind,
            preprocessing=f"channels averaged, {encoder.sample_rate_hz / 1000:g} kHz, {seconds} s, "
            "log mel of each second",
            precision=precision(device),
        ),
        load=load,
        encode=encode,
        batch_size=16,
        description="audio",
    )
    print(f"{out}: audio of {len(clips)} clips, {encoder.dim} features per second")


if __name__ == "__main__":
    run(main, root=True, processes="runtime")
