"""Weights by name and digest: a run uses the very weights that its parameters name, or none.

A name is a path; or `owner/name@revision`, a folder on the Hugging Face hub at a commit; or the
https address of a file. What is fetched is kept in `HUB_FOLDER`.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


HUB_FOLDER = Path("weights/hub")
"""Where what is fetched is kept."""
WEIGHTS = "model.safetensors"
"""The file of a folder that holds its weights."""
HUB_FILES = ("*.json", "*.txt", WEIGHTS)
"""What is fetched of a folder: configuration, tokenizer, weights that can't run code."""
SHIPPED = Path(__file__).parent / "shipped"
"""The mini weights, by the names that they have from the repository's root."""
DEFAULT = "weights/mini/sam2love"
"""The pretrained folder of the default run."""
_REPOSITORY = r"[\w-][\w.-]*/[\w.-]+"
_HUB_ID = re.compile(rf"(?P<repository>{_REPOSITORY})@(?P<revision>[\w./-]+)")


def weights_file(path: str | Path) -> Path:
    """Return the file that holds the weights: of a folder its model.safetensors, else the path."""
    path = Path(path)
    return path / WEIGHTS if path.is_dir() else path


def digest(path: str | Path) -> str:
    """SHA-256 of the weights' file, as a page of the hub shows it.

    Of a folder it leaves out configuration and tokenizer, which a hub id pins by its commit.

    Raises:
        FileNotFoundError: there is no such file, or no model.safetensors in the folder.
    """
    file = weights_file(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; expected weights or a folder with {WEIGHTS}"
        )
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def verify(path: str | Path, expected: str) -> None:
    """Make sure that weights have the digest that the parameters name.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are others.
    """
    file = weights_file(path)
    found = digest(file)
    if found != expected:
        raise ValueError(
            f"{file}: its SHA-256 is {found}, the parameters expect {expected}; if these weights "
            "are meant, write their digest into params.yaml; if not, name others there or put the "
            "right ones in their place"
        )


def find(name: str) -> str:
    """A name as it is, or, if it's only among the shipped weights, as a path to those.

    So what runs from the repository's root also runs where only the package is installed.
    """
    shipped = SHIPPED / name
    return str(shipped) if shipped.exists() and not Path(name).exists() else name


def locate(weights: str | Path, expected: str | None = None) -> Path:
    """The local file or folder of some weights, fetched if it is not there yet.

    Args:
        weights: their name, see the module.
        expected: SHA-256 that their file must have; None does not verify.

    Raises:
        FileNotFoundError: they are not there, and not to be had.
        ValueError: they are others than the digest says.
    """
    path = place(str(weights))
    if not path.exists():
        _fetch(str(weights), path)
    if expected is not None:
        verify(path, expected)
    return path


def account(weights: str, expected: str) -> tuple[str, bool]:
    """Fetch weights if need be: a line on what came of it, and whether all is well."""
    outcome = "found" if place(weights).exists() else "fetched"
    try:
        file = weights_file(locate(weights, expected))
    except FileNotFoundError as error:
        return f"missing: {error}", False
    except ValueError as error:
        return f"{outcome}: {error}", False
    return f"{outcome}: {file}, its SHA-256 is {expected}, as the parameters expect", True


def place(weights: str) -> Path:
    """Where some weights lie, or will once they are fetched."""
    fetched = weights.startswith("https://") or _HUB_ID.fullmatch(weights)
    if fetched and not Path(weights).exists():
        return HUB_FOLDER / weights.removeprefix("https://").replace("/", "--")
    return Path(find(weights))


def _fetch(weights: str, path: Path) -> None:
    hub_id = _HUB_ID.fullmatch(weights)
    if not (hub_id or weights.startswith("https://")):
        raise FileNotFoundError(
            f"{weights}: no such file or folder; expected a path, owner/name@revision of the hub "
            "or an https address"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if hub_id:
            _fetch_folder(path, **hub_id.groupdict())
        else:
            _fetch_file(weights, path)
    except Exception as error:  # of the network, of the hub, of the disk
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{weights}: can't be fetched ({reason}); run `sam2love weights` with a network, or "
            f"put it to {path}"
        ) from None


def _fetch_folder(path: Path, *, repository: str, revision: str) -> None:
    from huggingface_hub import logging, snapshot_download

    logging.set_verbosity_error()  # a line of ours says what its warnings say of each attempt
    partial = path.with_name(f".{path.name}.partial")
    snapshot_download(
        repository, revision=revision, local_dir=partial, allow_patterns=list(HUB_FILES)
    )
    if not (partial / WEIGHTS).is_file():
        raise ValueError(f"this revision has no {WEIGHTS}")
    partial.rename(path)


def _fetch_file(address: str, path: Path) -> None:
    import torch
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    torch.hub.download_url_to_file(address, str(path))


def fetch_pretrained(source: str, names: tuple[str, ...]) -> Path:
    """A pretrained folder; that of a hub id, `owner/name[@revision]`, in the hub's own cache.

    Raises:
        FileNotFoundError: it is no folder with these files, and no hub id or not to be had.
    """
    folder = Path(find(source))
    name, _, revision = source.partition("@")
    if not folder.exists() and re.fullmatch(_REPOSITORY, name):
        from huggingface_hub import snapshot_download

        try:
            folder = Path(
                snapshot_download(name, revision=revision or None, allow_patterns=list(names))
            )
        except Exception as error:  # of the network, of the hub, of the disk
            raise FileNotFoundError(
                f"{source}: no such folder, and the hub does not give it ({error})"
            ) from None
    for file in names:
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{folder / file}: no such file; expected a folder that save_pretrained wrote, or "
                "a hub id owner/name"
            )
    return folder


# ---- what is in them ----------------------------------------------------------------------------


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
