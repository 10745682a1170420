"""Unusual image files, compared with Pillow's own operations and OpenCV's reader."""

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from sam2love.dataset.pictures import above_black, read_picture

COLOURS = np.random.default_rng(0).integers(0, 255, (3, 4, 3)).astype(np.uint8)
PIXELS = COLOURS.repeat(8, axis=0).repeat(8, axis=1)  # (24, 32, 3)
STORED = {
    # EXIF's orientation: how an upright picture is stored
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def with_orientation(orientation) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def gray(mask):
    return Image.fromarray(mask.astype(np.uint8) * 255)


# ---- orientation --------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_rotated_upright(tmp_path, orientation, kind, mode):
    upright = Image.fromarray(PIXELS).convert(mode)
    how = STORED[orientation]
    stored = upright if how is None else upright.transpose(how)
    stored.save(tmp_path / "x", kind, exif=with_orientation(orientation), subsampling=0)
    picture = read_picture(tmp_path / "x")
    assert picture.orientation == orientation
    expected = np.array(upright.convert("RGB")).astype(int)
    assert np.abs(picture.pixels - expected).mean() < (4 if kind == "JPEG" else 1e-9)
    # The benchmark reads masks with OpenCV, which rotates them too.
    assert cv2.imread(str(tmp_path / "x")).shape == picture.pixels.shape
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_invalid_orientation_is_ignored(tmp_path, orientation):
    Image.fromarray(PIXELS).save(tmp_path / "x", "PNG", exif=with_orientation(orientation))
    picture = read_picture(tmp_path / "x")
    assert picture.orientation == 1
    np.testing.assert_array_equal(picture.pixels, PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # as pictures.py does
def test_damaged_exif_is_ignored(tmp_path):
    exif = with_orientation(6).tobytes().removeprefix(b"Exif\0\0")
    for place in range(len(exif)):
        for value in (0, 255):
            damaged = exif[:place] + bytes([value]) + exif[place + 1 :]
            Image.fromarray(PIXELS).save(tmp_path / "x", "PNG", exif=damaged)
            assert read_picture(tmp_path / "x").pixels.size == PIXELS.size


# ---- alpha --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_kept_apart_from_the_colours(tmp_path, mode):
    colours = Image.fromarray(PIXELS).convert(mode[:-1])
    alpha = np.arange(PIXELS.shape[0] * PIXELS.shape[1]).reshape(PIXELS.shape[:2]).astype(np.uint8)
    picture = colours.convert(mode)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "x", "PNG")
    read = read_picture(tmp_path / "x")
    np.testing.assert_array_equal(read.pixels, np.array(colours.convert("RGB")))
    np.testing.assert_array_equal(read.alpha, alpha)
    np.testing.assert_array_equal(read.pixels, cv2.imread(str(tmp_path / "x"))[..., ::-1])
    colours.convert(mode).save(tmp_path / "x", "PNG")
    assert read_picture(tmp_path / "x").alpha is None


def test_alpha_is_rotated_with_the_colours(tmp_path):
    alpha = np.zeros((24, 32), np.uint8)
    alpha[:6, :9] = 255
    picture = Image.fromarray(PIXELS).convert("RGBA")
    picture.putalpha(Image.fromarray(alpha))
    stored = picture.transpose(STORED[7])
    stored.save(tmp_path / "x", "PNG", exif=with_orientation(7))
    np.testing.assert_array_equal(read_picture(tmp_path / "x").alpha, alpha)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_alpha(tmp_path, recwarn, mode, transparency):
    mask = np.zeros((24, 32), bool)
    mask[3:9, 4:8] = True
    picture = gray(mask).convert(mode)
    if mode == "P":
        picture = Image.fromarray(mask.astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
    else:
        transparency = (255,) * 3 if mode == "RGB" else 255
    picture.save(tmp_path / "x", "PNG", transparency=transparency)
    read = read_picture(tmp_path / "x")
    np.testing.assert_array_equal(read.alpha == 0, mask)
    np.testing.assert_array_equal(above_black([read.pixels])[0], mask)
    assert not recwarn.list


# ---- values -------------------------------------------------------------------------------------


def test_16_bits_are_scaled_and_never_become_black(tmp_path):
    values = np.arange(65536).astype(np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "x", "PNG")
    picture = read_picture(tmp_path / "x")
    assert picture.bits == 16
    assert (picture.pixels == picture.pixels[..., :1]).all()
    expected = values // 256
    expected[0, 1:] = 1
    np.testing.assert_array_equal(picture.pixels[..., 0], expected)


def test_16_bit_colours_are_scaled(tmp_path):
    assert cv2.imwrite(str(tmp_path / "x.png"), PIXELS[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png").pixels, PIXELS)


def test_the_object_is_where_opencvs_gray_is_above_0(tmp_path):
    """All dark colours, as the benchmark's code reads them."""
    dark = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(8, 64, 3).astype(np.uint8)
    Image.fromarray(dark).save(tmp_path / "x.png")
    shown = above_black([read_picture(tmp_path / "x.png").pixels])[0]
    by_benchmark = cv2.cvtColor(cv2.imread(str(tmp_path / "x.png")), cv2.COLOR_BGR2GRAY) > 0
    np.testing.assert_array_equal(shown, by_benchmark)
    black = {tuple(colour) for colour in dark[~shown].tolist()}
    assert black == {(r, 0, b) for r in (0, 1) for b in range(5) if 0.299 * r + 0.114 * b < 0.5}
