"""State dicts: read from a file without running code, chosen and compared by names."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SAVE_ALONE = "save the weights alone: torch.save(model.state_dict(), path)"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, or of one by torch.save, on the CPU; nothing else is run.

    The names say where a tensor lies: that of `{"model": {"weight": tensor}}` is model.weight. What
    torch.compile puts into names is left out, and so is whatever lies beside the tensors.

    Raises:
        ValueError: it is neither, or holds no tensors, or objects that take code to load.
        OSError: the system doesn't let it be read.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as file:  # whatever its name ends in
        start = file.read(9)
        file.seek(0)
        try:
            if start[8:] == b"{":  # behind the length of the header
                saved = load_file(path)
            else:
                saved = torch.load(file, map_location="cpu", weights_only=True)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: {_reason(str(error), start)}") from None
    try:
        tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in _flat(saved)}
    except RecursionError:
        raise ValueError(f"{path}: a state dict that holds itself; {SAVE_ALONE}") from None
    for name, tensor in tensors.items():
        if tensor.is_sparse or tensor.is_meta:
            raise ValueError(f"{path}: {name} is no dense tensor with values; {SAVE_ALONE}")
    if not tensors:
        raise ValueError(f"{path}: holds no tensor; expected a model's state dict")
    return tensors


def _reason(error: str, start: bytes) -> str:
    """Why torch can't load a file, from what it says and the file's first bytes."""
    if name := re.search(r"GLOBAL (\S+) was not an allowed", error):
        return f"holds {name[1]} beside the weights, which takes code to load; {SAVE_ALONE}"
    if "TorchScript" in error:
        return f"a TorchScript archive, which is code; {SAVE_ALONE}"
    if "Unsupported operand" in error and start.startswith(b"PK\x03\x04"):
        return (
            f"saved by a pickle_protocol that torch can't load without running code; {SAVE_ALONE}"
        )
    return "neither .safetensors nor a whole file of torch.save; fetch or copy it again"


def _flat(saved: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested mappings and lists, by the keys that lead to each."""
    if not isinstance(saved, Mapping | list | tuple):
        if hasattr(saved, "is_floating_point"):
            yield place, saved
        return
    for key, value in saved.items() if isinstance(saved, Mapping) else enumerate(saved):
        yield from _flat(value, f"{place}.{key}" if place else str(key))


def select(tensors: Mapping[str, Tensor], names: Collection[str], *, origin: Path) -> dict:
    """Of all tensors in a file those of a model, by the model's own names.

    People keep a model's weights behind `module.` (DataParallel), under `state_dict`, `model` or
    `ema`, beside an optimizer's: taken is what lies where most of the model's names do.

    Args:
        tensors: as `read_tensors` returns them.
        names: that tensors of the model have.
        origin: the file, for messages.

    Raises:
        ValueError: none has such a name, or several sets of weights do.
    """
    found: Counter[str] = Counter()
    for name in tensors:
        places = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        found.update(name[:place] for place in places if name[place:] in names)
    if not found:
        raise ValueError(
            f"{origin}: no tensor has a name of this model, such as {next(iter(names))}; found "
            f"{few([*tensors])}"
        )
    most = max(found.values())
    prefix, *others = (prefix for prefix, count in found.items() if count == most)
    if others:
        raise ValueError(
            f"{origin}: holds several sets of weights, {few([prefix, *others])}; save the one that "
            "is meant alone"
        )
    behind = (name for name in tensors if name.startswith(prefix))
    return {name.removeprefix(prefix): tensors[name] for name in behind}


def misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What of a state dict doesn't fit a model, by name; empty if everything does."""
    own = model.state_dict()
    expected, found = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (own, state)
    )
    faults = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name]} for {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
        "not in floating point": [
            name
            for name, tensor in own.items()
            if name in found and tensor.is_floating_point() > state[name].is_floating_point()
        ],
    }
    return "; ".join(f"{fault}: {few(names)}" for fault, names in faults.items() if names)


def few(names: Sequence[str]) -> str:
    """The first of many names, and how many more."""
    told = ", ".join(names[:3])
    return told if len(names) <= 3 else f"{told} and {len(names) - 3} more"
