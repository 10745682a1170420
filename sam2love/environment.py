"""Describe the machine and the working folder for a bug report."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sam2love.encoders.weights import DEFAULT, digest, local_path, resolve
from sam2love.params import Config, load_config, load_params
from sam2love.stores.store import FeatureStore

PACKAGES = (
    "sam2love",
    "torch",
    "torchaudio",
    "sam2",
    "timm",
    "transformers",
    "zarr",
    "numpy",
    "av",
    "dvc",
    "gradio",
)


def describe_environment() -> list[str]:
    """Return lines on versions, devices, weights and the stores in the working folder."""
    return [
        f"python {platform.python_version()}, {platform.platform()}",
        *(f"{name} {installed_version(name)}" for name in PACKAGES),
        f"{os.cpu_count()} processors",
        f"GPU: {_gpu()}",
        *_weights(),
        *_stores(),
    ]


def gpu_fault(error: RuntimeError) -> str:
    """Return what to do about a GPU that is out of memory; empty for any other error."""
    if type(error).__name__ == "OutOfMemoryError":
        return (
            f"{str(error).partition('. ')[0]}; lower the stage's batch_size or rows_per_batch in "
            "params.yaml, or give sam2love predict fewer sentences at once"
        )
    return ""


def installed_version(name: str) -> str:
    """Return the version of a package, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return "no driver found"
    import torch  # slow, so only imported where there may be a GPU

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "driver found, but no GPU that torch can use"


def _weights() -> Iterator[str]:
    """Yield whether the weights of params.yaml and of the default model match their digests."""
    sources = {"params.yaml": Path("params.yaml"), "default model": Path(resolve(DEFAULT))}
    for name, path in sources.items():
        try:
            config = load_params(path) if path.suffix else load_config(path / "config.json")
        except ValueError as error:
            yield str(error)
        else:
            yield from (f"{name}: {line}" for line in _named(config))


def _named(config: Config) -> Iterator[str]:
    for section in (config.audio, config.vision, config.text, config.sam2):
        path = local_path(section.weights)
        try:
            matches = digest(path) == section.digest
        except FileNotFoundError:
            yield f"{section.weights} is not on this machine"
        else:
            yield f"{path}, digest {'matches' if matches else 'differs'}"


def _stores() -> Iterator[str]:
    for path in sorted(Path().glob("*/*.zarr")):
        try:
            yield f"{path}: {len(FeatureStore.open(path).ids)} items"
        except (ValueError, OSError) as error:
            yield f"{path}: {error}"
