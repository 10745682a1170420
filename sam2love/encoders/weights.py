"""Find weights by name, fetch them if necessary, and verify their digest.

A name is a path, a folder on the Hugging Face hub at a commit (`owner/name@revision`), or the
https URL of a file.
"""

import hashlib
import re
from pathlib import Path

HUB_FOLDER = Path("weights/hub")
"""Fetched weights are kept here."""
WEIGHTS = "model.safetensors"
"""The weights' file in a folder."""
HUB_FILES = ("*.json", "*.txt", WEIGHTS)
"""Files fetched of a folder: configuration, tokenizer, and weights that can't run code."""
SHIPPED = Path(__file__).parents[1] / "shipped"
"""The mini weights, under their paths from the repository's root."""
DEFAULT = "weights/mini/sam2love"
"""The pretrained folder of the default run."""
_REPOSITORY = r"[\w-][\w.-]*/[\w.-]+"
_HUB_ID = re.compile(rf"(?P<repository>{_REPOSITORY})@(?P<revision>[\w./-]+)")


def weights_file(path: str | Path) -> Path:
    """Return the file of some weights: model.safetensors of a folder, else the path itself."""
    path = Path(path)
    return path / WEIGHTS if path.is_dir() else path


def digest(path: str | Path) -> str:
    """Return the SHA-256 of the weights' file, as the hub shows it.

    It doesn't cover a folder's configuration and tokenizer, which a hub id pins by its commit.

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
    """Verify that weights have the digest given in the parameters.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: their digest is another.
    """
    file = weights_file(path)
    found = digest(file)
    if found != expected:
        raise ValueError(
            f"{file}: its SHA-256 is {found}, the parameters expect {expected}; to use these "
            "weights, write their digest into params.yaml; else replace the file, or name others"
        )


def resolve(name: str) -> str:
    """Return a name unchanged, or the path of shipped weights if only those exist.

    Names that work at the repository's root thus also work with only the package installed.
    """
    shipped = SHIPPED / name
    return str(shipped) if shipped.exists() and not Path(name).exists() else name


def fetch(weights: str | Path, expected: str | None = None) -> Path:
    """Return the local file or folder of some weights, fetching it if it doesn't exist yet.

    Args:
        weights: a name as described at the top of the module.
        expected: the expected SHA-256; by default it is not verified.

    Raises:
        FileNotFoundError: they don't exist and can't be fetched.
        ValueError: their digest is another.
    """
    path = local_path(str(weights))
    if not path.exists():
        _fetch(str(weights), path)
    if expected is not None:
        verify(path, expected)
    return path


def fetch_and_describe(weights: str, expected: str) -> tuple[str, bool]:
    """Fetch weights if necessary; return a line with the result, and whether they are valid."""
    outcome = "found" if local_path(weights).exists() else "fetched"
    try:
        file = weights_file(fetch(weights, expected))
    except FileNotFoundError as error:
        return f"missing: {error}", False
    except ValueError as error:
        return f"{outcome}: {error}", False
    return f"{outcome}: {file}, its SHA-256 is {expected}, as the parameters expect", True


def local_path(weights: str) -> Path:
    """Return the local path of some weights, whether or not they are fetched yet."""
    fetched = weights.startswith("https://") or _HUB_ID.fullmatch(weights)
    if fetched and not Path(weights).exists():
        return HUB_FOLDER / weights.removeprefix("https://").replace("/", "--")
    return Path(resolve(weights))


def _fetch(weights: str, path: Path) -> None:
    hub_id = _HUB_ID.fullmatch(weights)
    if not (hub_id or weights.startswith("https://")):
        raise FileNotFoundError(
            f"{weights}: no such file or folder; expected a path, a hub id owner/name@revision or "
            "an https URL"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if hub_id:
            _fetch_folder(path, **hub_id.groupdict())
        else:
            _fetch_file(weights, path)
    except Exception as error:  # from the network, the hub or the disk
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{weights}: can't be fetched ({reason}); run `sam2love weights` with a network, or "
            f"copy it to {path}"
        ) from None


def _fetch_folder(path: Path, *, repository: str, revision: str) -> None:
    from huggingface_hub import logging, snapshot_download

    logging.set_verbosity_error()  # it warns about each attempt; our error is enough
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
    """Return a pretrained folder; for a hub id, `owner/name[@revision]`, in the hub's own cache.

    Raises:
        FileNotFoundError: not a folder with these files, and not a hub id or not available.
    """
    folder = Path(resolve(source))
    name, _, revision = source.partition("@")
    if not folder.exists() and re.fullmatch(_REPOSITORY, name):
        from huggingface_hub import snapshot_download

        try:
            folder = Path(
                snapshot_download(name, revision=revision or None, allow_patterns=list(names))
            )
        except Exception as error:  # from the network, the hub or the disk
            raise FileNotFoundError(
                f"{source}: no such folder, and it can't be fetched from the hub ({error})"
            ) from None
    for file in names:
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{folder / file}: no such file; expected a folder that save_pretrained wrote, or "
                "a hub id owner/name"
            )
    return folder
