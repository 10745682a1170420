"""Build SAM 2 from the sam2 package's configuration format, with weights loaded strictly."""

from importlib.resources import files
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2love.weights import few, find, locate, misfit, read_state

__all__ = ["SAM2Base", "build_sam2"]


def build_sam2(
    config: str, weights: str | None = None, *, digest: str | None = None, device: str = "cpu"
) -> SAM2Base:
    """Build a SAM 2 or 2.1 model in evaluation mode.

    Args:
        config: path of a YAML file with a `model:` section, or the name of one of the package's
            own, such as `configs/sam2.1/sam2.1_hiera_l.yaml`.
        weights: path or https address of `.safetensors`, or of a published `.pt` file that holds
            `{"model": state_dict}`; None leaves the random initialisation.
        digest: SHA-256 that the weights must have; None does not verify.

    Raises:
        FileNotFoundError: no such weights.
        ValueError: no such configuration, or weights that do not fit it or the digest.
    """
    model = instantiate(OmegaConf.load(_find(config)).model, _recursive_=True)
    if weights is not None:
        path = locate(weights, digest)
        state = _read_published(path)
        if reason := misfit(model, state):
            raise ValueError(
                f"{path} does not fit {config} ({reason}); sam2.config must name the model that "
                "sam2.weights are of"
            )
        model.load_state_dict(state)
    return model.to(device).eval()


def _find(config: str) -> Path:
    packaged = Path(str(files("sam2"))) / config
    for path in (Path(find(config)), packaged):
        if path.is_file():
            return path
    raise ValueError(
        f"sam2.config: {config} is neither a file nor a configuration of the sam2 package"
    )


def _read_published(path: Path) -> dict[str, Tensor]:
    state = read_state(path)
    if path.suffix == ".safetensors":
        return state
    if "model" not in state:
        raise ValueError(
            f'{path}: expected {{"model": state_dict}}, as SAM 2 comes; found {few([*state])}'
        )
    return state["model"]
