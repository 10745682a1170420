"""Build SAM 2 from a configuration in the sam2 package's format, with weights loaded strictly."""

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
"""The modules whose classes a configuration may name."""


def build_sam2(
    config: str,
    weights: str | None = None,
    *,
    digest: str | None = None,
    device: torch.device | str = "cpu",
) -> SAM2Base:
    """Build a SAM 2 or 2.1 model in evaluation mode.

    Args:
        config: path of a YAML file with a `model:` section, or the name of a configuration in the
            package, such as `configs/sam2.1/sam2.1_hiera_l.yaml`.
        weights: path or https URL of a file that `read_tensors` reads, such as a published one,
            `{"model": state_dict}`; None keeps the random initialisation.
        digest: the expected SHA-256 of the weights; by default it is not verified.

    Raises:
        FileNotFoundError: no such weights.
        ValueError: no such configuration, one that names anything but network classes, or weights
            that fit neither it nor the digest.
    """
    model = _read_model(_find(config))
    if weights is not None:
        path = fetch(weights, digest)
        state = select(read_tensors(path), model.state_dict().keys(), origin=path)
        if reason := misfit(model, state):
            raise ValueError(
                f"{path} does not fit {config} ({reason}); sam2.config must name the model of "
                "sam2.weights"
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
    """Build the model of a configuration, after checking that every class in it is allowed."""
    values = read_yaml(path)
    try:
        section = values["model"]
        for node in _nodes(section):
            if "_target_" in node:
                _network(node["_target_"])
            if node.get("weights_path") is not None:
                raise ValueError("weights_path is not allowed; sam2.weights names the weights")
        model = _build(section)
        if not isinstance(model, SAM2Base):
            raise ValueError(f"expected _target_: {SAM2Base.__module__}.SAM2Base")
    except Exception as error:  # constructors raise all kinds of errors on odd arguments
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        raise ValueError(f"{path}: 'model:' can't be built as a SAM 2 ({reason})") from None
    return model


def _nodes(value: Any) -> Iterator[dict]:
    """Yield all nested dictionaries."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from _nodes(part)


def _build(node: Any) -> Any:
    """Build a node of a configuration: a network if it has a _target_, else its values."""
    if isinstance(node, list):
        return [_build(part) for part in node]
    if not isinstance(node, dict):
        return node
    arguments = {name: _build(value) for name, value in node.items()}
    if "_target_" not in arguments:
        return arguments
    return _network(arguments.pop("_target_"))(**arguments)


def _network(name: Any) -> type[nn.Module]:
    """Return the network class of that name if it is defined in one of `PACKAGES`.

    A configuration may come from anyone, and any other name could run arbitrary code.
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
