"""Build SAM 2 from the sam2 package's configuration format, with weights loaded strictly."""

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from sam2love.encoders.tensors import misfit, read_tensors, select
from sam2love.encoders.weights import fetch, resolve
from sam2love.params import read_yaml

__all__ = ["SAM2Base", "build_sam2"]

PACKAGES = ("sam2.modeling.", "torch.nn.")
"""Where the classes lie that a configuration may name."""


def build_sam2(
    config: str,
    weights: str | None = None,
    *,
    digest: str | None = None,
    device: torch.device | str = "cpu",
) -> SAM2Base:
    """Build a SAM 2 or 2.1 model in evaluation mode.

    Args:
        config: path of a YAML file with a `model:` section, or the name of one of the package's
            own, such as `configs/sam2.1/sam2.1_hiera_l.yaml`.
        weights: path or https address of a file that `read_tensors` reads, such as a published
            one, `{"model": state_dict}`; None leaves the random initialisation.
        digest: SHA-256 that the weights must have; None does not verify.

    Raises:
        FileNotFoundError: no such weights.
        ValueError: no such configuration, one that names anything but classes of networks, or
            weights that do not fit it or the digest.
    """
    model = _read_model(_find(config))
    if weights is not None:
        path = fetch(weights, digest)
        state = select(read_tensors(path), model.state_dict().keys(), origin=path)
        if reason := misfit(model, state):
            raise ValueError(
                f"{path} does not fit {config} ({reason}); sam2.config must name the model that "
                "sam2.weights are of"
            )
        model.load_state_dict(state)
    return model.to(device).eval()


def _find(config: str) -> Path:
    packaged = Path(str(files("sam2"))) / config
    for path in (Path(resolve(config)), packaged):
        if path.is_file():
            return path
    raise ValueError(
        f"sam2.config: {config} is neither a file nor a configuration of the sam2 package"
    )


def _read_model(path: Path) -> SAM2Base:
    """The model that a configuration describes; nothing is built before all of it is allowed."""
    values = read_yaml(path)
    try:
        described = values["model"]
        for node in _nodes(described):
            if "_target_" in node:
                _network(node["_target_"])
            if node.get("weights_path") is not None:
                raise ValueError("weights_path is not allowed; sam2.weights names the weights")
        model = _build(described)
        if not isinstance(model, SAM2Base):
            raise ValueError(f"expected _target_: {SAM2Base.__module__}.SAM2Base")
    except Exception as error:  # whatever a constructor makes of its arguments
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        raise ValueError(f"{path}: 'model:' is no SAM 2 that can be built ({reason})") from None
    return model


def _nodes(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from _nodes(part)


def _build(node: Any) -> Any:
    """What a node of a configuration stands for: a network if it has a _target_."""
    if isinstance(node, list):
        return [_build(part) for part in node]
    if not isinstance(node, dict):
        return node
    arguments = {name: _build(value) for name, value in node.items()}
    if "_target_" not in arguments:
        return arguments
    return _network(arguments.pop("_target_"))(**arguments)


def _network(name: Any) -> type[nn.Module]:
    """The class of that name, if it is a network's and at home in one of `PACKAGES`.

    A configuration may come from anyone, and any other name could be code that runs.
    """
    module, _, attribute = str(name).rpartition(".")
    found: Any = None
    if f"{module}.".startswith(PACKAGES):
        with suppress(ImportError, AttributeError, ValueError):
            found = getattr(import_module(module), attribute)
    network = isinstance(found, type) and issubclass(found, nn.Module)
    if not (network and f"{found.__module__}.".startswith(PACKAGES)):
        raise ValueError(
            f"_target_ {name} is not allowed; expected a network of sam2.modeling or torch.nn"
        )
    return found
