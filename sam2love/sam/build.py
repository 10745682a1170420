"""Build SAM 2 from the sam2 package's configuration format, with weights loaded strictly."""

from importlib.resources import files
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base

from sam2love.weights import verify

__all__ = ["SAM2Base", "build_sam2"]


def build_sam2(
    config: str, weights: str | None = None, *, digest: str | None = None, device: str = "cpu"
) -> SAM2Base:
    """Build a SAM 2 or 2.1 model in evaluation mode.

    Args:
        config: path of a YAML file with a `model:` section, or the name of one of the package's
            own, such as `configs/sam2.1/sam2.1_hiera_l.yaml`.
        weights: `.safetensors`, or a published `.pt` file that holds `{"model": state_dict}`;
            None leaves the random initialisation.
        digest: SHA-256 that the weights must have; None does not verify.

    Raises:
        ValueError: no such configuration, or weights that do not fit it.
    """
    model = instantiate(OmegaConf.load(_find(config)).model, _recursive_=True)
    if weights is not None:
        if digest is not None:
            verify(weights, digest)
        _load_strictly(model, weights)
    return model.to(device).eval()


def _find(config: str) -> Path:
    packaged = Path(str(files("sam2"))) / config
    for path in (Path(config), packaged):
        if path.is_file():
            return path
    raise ValueError(
        f"sam2.config: {config} is neither a file nor a configuration of the sam2 package"
    )


def _load_strictly(model: SAM2Base, weights: str) -> None:
    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"sam2.weights: {weights}: no such file")
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit sam2.config: {error}") from None
