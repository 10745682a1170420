"""State dicts: read without running code, select by name, and compare with a model."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SAVE_WEIGHTS = "save only the weights: torch.save(model.state_dict(), path)"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file, .safetensors or by torch.save, on the CPU, without running code.

    A name is the path of keys: the tensor in `{"model": {"weight": tensor}}` is model.weight. The
    prefix that torch.compile adds is removed; values other than tensors are ignored.

    Raises:
        ValueError: another kind of file, one without tensors, or with objects that need code.
        OSError: the file can't be read.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as file:  # the extension doesn't matter
        start = file.read(9)
        file.seek(0)
        try:
            if start[8:] == b"{":  # after the length of the header
                saved = load_file(path)
            else:
                saved = torch.load(file, map_location="cpu", weights_only=True)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: {_reason(str(error), start)}") from None
    try:
        tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in _flat(saved)}
    except RecursionError:
        raise ValueError(f"{path}: a state dict that contains itself; {SAVE_WEIGHTS}") from None
    for name, tensor in tensors.items():
        if tensor.is_sparse or tensor.is_meta:
            raise ValueError(f"{path}: {name} is not a dense tensor with values; {SAVE_WEIGHTS}")
    if not tensors:
        raise ValueError(f"{path}: contains no tensor; expected a model's state dict")
    return tensors


def _reason(error: str, start: bytes) -> str:
    """Explain why torch can't load a file, from its error and the file's first bytes."""
    if name := re.search(r"GLOBAL (\S+) was not an allowed", error):
        return f"contains {name[1]} next to the weights, which needs code to load; {SAVE_WEIGHTS}"
    if "TorchScript" in error:
        return f"a TorchScript archive, which is code; {SAVE_WEIGHTS}"
    if "Unsupported operand" in error and start.startswith(b"PK\x03\x04"):
        return f"saved with a pickle_protocol that needs code to load; {SAVE_WEIGHTS}"
    return "neither .safetensors nor a complete file of torch.save; fetch or copy it again"


def _flat(saved: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested mappings and lists, by the dotted path of keys to each."""
    if not isinstance(saved, Mapping | list | tuple):
        if hasattr(saved, "is_floating_point"):
            yield path, saved
        return
    for key, value in saved.items() if isinstance(saved, Mapping) else enumerate(saved):
        yield from _flat(value, f"{path}.{key}" if path else str(key))


def select(tensors: Mapping[str, Tensor], names: Collection[str], *, origin: Path) -> dict:
    """Select a model's tensors among those of a file, and strip the prefix of their names.

    Checkpoints keep weights with a prefix `module.` (DataParallel), under `state_dict`, `model` or
    `ema`, or next to an optimizer's state. The prefix that matches most of the names is chosen.

    Args:
        tensors: as `read_tensors` returns them.
        names: of the model's tensors.
        origin: the file, for error messages.

    Raises:
        ValueError: no tensor has such a name, or several prefixes match equally well.
    """
    found: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        found.update(name[:start] for start in starts if name[start:] in names)
    if not found:
        raise ValueError(
            f"{origin}: no tensor has a name of this model, such as {next(iter(names))}; found "
            f"{abbreviated([*tensors])}"
        )
    most = max(found.values())
    prefix, *others = (prefix for prefix, count in found.items() if count == most)
    if others:
        raise ValueError(
            f"{origin}: contains several sets of weights, {abbreviated([prefix, *others])}; save "
            "only the one to be used"
        )
    selected = (name for name in tensors if name.startswith(prefix))
    return {name.removeprefix(prefix): tensors[name] for name in selected}


def misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Describe how a state dict doesn't fit a model, with names; empty if it fits."""
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
        "not floating point": [
            name
            for name, tensor in own.items()
            if name in found and tensor.is_floating_point() > state[name].is_floating_point()
        ],
    }
    return "; ".join(f"{fault}: {abbreviated(names)}" for fault, names in faults.items() if names)


def abbreviated(names: Sequence[str]) -> str:
    """List the first three names, and how many more there are."""
    first = ", ".join(names[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
