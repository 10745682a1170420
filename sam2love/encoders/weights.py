"""Weights by name and digest: a run uses the very weights that its parameters name, or none.

A name is a path; or `owner/name@revision`, a folder on the Hugging Face hub at a commit; or the
https address of a file. What is fetched is kept in `HUB_FOLDER`.
"""

import hashlib
import re
from pathlib import Path

HUB_FOLDER = Path("weights/hub")
"""Where what is fetched is kept."""
WEIGHTS = "model.safetensors"
"""The file of a folder that holds its weights."""
HUB_FILES = ("*.json", "*.txt", WEIGHTS)
"""What is fetched of a folder: configuration, tokenizer, weights that can't run code."""
SHIPPED = Path(__file__).parents[1] / "shipped"
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


def resolve(name: str) -> str:
    """A name as it is, or, if it's only among the shipped weights, as a path to those.

    So what runs from the repository's root also runs where only the package is installed.
    """
    shipped = SHIPPED / name
    return str(shipped) if shipped.exists() and not Path(name).exists() else name


def fetch(weights: str | Path, expected: str | None = None) -> Path:
    """The local file or folder of some weights, fetched if it is not there yet.

    Args:
        weights: their name, see the module.
        expected: SHA-256 that their file must have; None does not verify.

    Raises:
        FileNotFoundError: they are not there, and not to be had.
        ValueError: they are others than the digest says.
    """
    path = local_path(str(weights))
    if not path.exists():
        _fetch(str(weights), path)
    if expected is not None:
        verify(path, expected)
    return path


def fetch_and_describe(weights: str, expected: str) -> tuple[str, bool]:
    """Fetch weights if need be: a line on what came of it, and whether all is well."""
    outcome = "found" if local_path(weights).exists() else "fetched"
    try:
        file = weights_file(fetch(weights, expected))
    except FileNotFoundError as error:
        return f"missing: {error}", False
    except ValueError as error:
        return f"{outcome}: {error}", False
    return f"{outcome}: {file}, its SHA-256 is {expected}, as the parameters expect", True


def local_path(weights: str) -> Path:
    """Where some weights lie, or will once they are fetched."""
    fetched = weights.startswith("https://") or _HUB_ID.fullmatch(weights)
    if fetched and not Path(weights).exists():
        return HUB_FOLDER / weights.removeprefix("https://").replace("/", "--")
    return Path(resolve(weights))


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
    folder = Path(resolve(source))
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
