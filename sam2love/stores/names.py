"""Array and item names that writers and readers of the stores share."""

EMBEDDING_LEVELS = ("embedding", "high_res_0", "high_res_1")
"""The arrays of sam2.zarr, in the order in which `sam.encode.encode_frames` returns them."""


def item_name(key: str, number: int) -> str:
    """Name a frame of a clip, or an object by its fid: "<key>/<number>"."""
    return f"{key}/{number}"


def split_name(name: str) -> tuple[str, int]:
    """Split a name built by `item_name` into its key and number."""
    key, _, number = name.rpartition("/")
    return key, int(number)
