"""Read frames and masks from files: upright, 8 bits per channel; incomplete files are refused."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

MAX_PIXELS = 4096 * 4096
"""Larger frames and masks are refused before they are decoded."""
# MAX_PIXELS is stricter and raises; damaged EXIF is treated as none.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


@dataclass(frozen=True)
class Picture:
    """A frame or mask, with what its file records about it.

    pixels: (H, W, 3) uint8 RGB, upright; transparent pixels keep their colours.
    orientation: EXIF's, from 1 (upright as stored) to 8.
    alpha: (H, W) uint8; None if every pixel is opaque.
    bits: 8, or 16 for gray values scaled down to 8 bits, where no value above 0 becomes 0.
    """

    pixels: np.ndarray
    orientation: int
    alpha: np.ndarray | None
    bits: int


def read_picture(path: Path) -> Picture:
    """Read a frame or mask.

    Raises:
        FileNotFoundError, ValueError: the file is missing, too large or not a complete picture.
    """
    try:
        # PIL refuses truncated files; cv2 silently fills the missing part with gray.
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels, at most {MAX_PIXELS} are accepted")
            return _decoded(picture)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file; expected one per frame, of which "
            "data.frames (or --frames) states the number"
        ) from None
    except Exception as error:  # PIL's decoders raise all kinds of errors on damaged files
        reason = str(error).replace(str(path), "the file")
        raise ValueError(f"{path}: not a readable picture ({reason})") from None


def count_pixels(path: Path) -> int:
    """Return the number of pixels of a frame or mask, read from its header.

    Raises:
        FileNotFoundError, ValueError: the file is missing or not a picture.
    """
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            return picture.width * picture.height
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a readable picture") from None


def read_pictures(paths: list[Path]) -> list[Picture]:
    """Read the frames of a clip, or the masks of an object.

    Raises:
        FileNotFoundError, ValueError: one is missing, damaged, or of another size.
    """
    pictures = [read_picture(path) for path in paths]
    height, width = pictures[0].pixels.shape[:2]
    for t, picture in enumerate(pictures):
        h, w = picture.pixels.shape[:2]
        if (h, w) != (height, width):
            raise ValueError(
                f"{paths[0].parent}: picture {t} is {w}x{h}, the first one is {width}x{height}; "
                "all pictures of a clip must have the same size"
            )
    return pictures


def stacked(pictures: list[Picture]) -> np.ndarray:
    """Return the pixels of pictures of one size: (N, H, W, 3) uint8 RGB."""
    return np.stack([picture.pixels for picture in pictures])


def above_black(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Return the object's masks (N, H, W) bool in pictures (H, W, 3) uint8 RGB.

    As in the benchmark's own code, the object is where OpenCV's gray is above 0; red 1 and blue 4
    have a gray of 0.
    """
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) > 0 for picture in pictures])


def _decoded(picture: Image.Image) -> Picture:
    deep = picture.mode.startswith("I;16")
    if deep:  # PIL would clip values above 255
        values = np.asarray(picture)
        pixels = np.maximum(values >> 8, values > 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    else:
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        pixels = np.array(picture.convert(mode))
    orientation = _orientation(picture)
    pixels = _upright(pixels, orientation)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 and pixels[..., 3].min() < 255 else None
    pixels = np.ascontiguousarray(pixels[..., :3])
    return Picture(pixels, orientation, alpha, bits=16 if deep else 8)


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels are usable whatever the state of EXIF
        orientation = None
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo EXIF's orientation of pixels (H, W, C), a rotation, a flip or both."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::down, ::right]
