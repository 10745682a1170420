"""Weights by their digests: a run uses the very weights that its parameters name, or none."""

import hashlib
import re
from pathlib import Path

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
HUB_FOLDER = Path("weights/hub")
"""Where the files of hub ids are kept."""
SHIPPED = Path(__file__).parent / "shipped"
"""The mini weights, by the names that they have from the repository's root."""
DEFAULT = "weights/mini/sam2love"
"""The pretrained folder of the default run."""


def digest(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names; hidden files don't count.

    Raises:
        FileNotFoundError: there is nothing at `path`, or a folder without files.
    """
    path = Path(path)
    if path.is_file():
        return _file_digest(path)
    files = {
        file.relative_to(path).as_posix(): file
        for file in path.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
    }
    if not files:
        raise FileNotFoundError(f"{path}: no such file or folder of files")
    lines = (f"{name} {_file_digest(files[name])}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify(path: str | Path, expected: str) -> None:
    """Make sure that weights have the digest that the parameters name.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are others.
    """
    found = digest(path)
    if found != expected:
        raise ValueError(
            f"{path}: its SHA-256 is {found}, the parameters expect {expected}; fetch or restore "
            "the weights (git checkout, for those in the repository), or, if the change is meant, "
            "write the new digest into params.yaml"
        )


def find(name: str) -> str:
    """A name as it is, or, if it's only among the shipped weights, as a path to those.

    So what runs from the repository's root also runs where only the package is installed.
    """
    shipped = SHIPPED / name
    return str(shipped) if shipped.exists() and not Path(name).exists() else name


def locate(weights: str, suffixes: tuple[str, ...] = (".json", ".txt", ".safetensors")) -> Path:
    """The local file or folder of some weights; a hub id's files are downloaded once.

    Args:
        weights: a path, or a hub id such as `timm/vit_base_patch16_224.augreg2_in21k_ft_in1k`.
        suffixes: what to download of a hub id.

    Raises:
        FileNotFoundError: it is no path, and no hub id or not to be had.
    """
    path = Path(weights)
    if path.exists():
        return path
    if weights.count("/") != 1 or weights.startswith((".", "/")):
        raise FileNotFoundError(
            f"{weights}: no such weights; expected a path or a hub id owner/name"
        )
    folder = hub_folder(weights)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        partial = folder.with_name(f".{folder.name}.partial")
        try:
            patterns = [f"*{suffix}" for suffix in suffixes]
            snapshot_download(weights, local_dir=partial, allow_patterns=patterns)
        except Exception as error:  # of the network, of the hub, of the disk
            raise FileNotFoundError(
                f"{weights}: no such path, and the hub does not give it ({error})"
            ) from None
        partial.rename(folder)
    return folder


def hub_folder(name: str) -> Path:
    """Where the files of a hub id are kept."""
    return HUB_FOLDER / name.replace("/", "--")


def fetch_pretrained(source: str, names: tuple[str, ...]) -> Path:
    """A pretrained folder; that of a hub id, `owner/name[@revision]`, in the hub's own cache.

    Raises:
        FileNotFoundError: it is no folder with these files, and no hub id or not to be had.
    """
    folder = Path(find(source))
    name, _, revision = source.partition("@")
    if not folder.exists() and HUB_ID.fullmatch(name):
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


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
