"""Each kind of fault of a data set: its line, and the exit status of `check` and `index`."""

import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import ExifTags, Image
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.dataset import refavs
from sam2love.dataset.check import examine
from stages import index, run
from tests import tiny

KEY, NULL = "vidC_1_2", "null_m-vidC_1_2"
ROWS = [tiny._row(*row) for row in tiny.ROWS if row[1] in (KEY, NULL)]
SIZE = (tiny.WIDTH, tiny.HEIGHT)


# ---- ways to damage a data set ------------------------------------------------------------------


def content(change):
    """Change the bytes of metadata.csv."""

    def damage(root):
        path = root / "metadata.csv"
        path.write_bytes(change(path.read_bytes()))

    return damage


def row(split="val", uid=f"{KEY}_cat_9", fid="2", exp="The green object."):
    """Add row 3 to metadata.csv."""
    return lambda root: tiny.write_metadata(root, [*ROWS, (KEY, uid, split, fid, exp)])


def kinds(*words):
    """Write a kinds.csv with these kinds for the first rows of metadata.csv."""
    lines = [f"{uid},{word}\n" for (_, uid, *_), word in zip(ROWS, words, strict=False)]
    return lambda root: (root / "kinds.csv").write_text("uid,kinds\n" + "".join(lines))


def frame(change):
    return lambda root: change(refavs.frame_path(root, KEY, 3))


def mask(change, key=KEY, fid=2):
    return lambda root: change(refavs.mask_path(root, key, fid, 3))


def sound(samples, sample_rate_hz, **options):
    return lambda root: soundfile.write(
        refavs.audio_path(root, KEY), samples, sample_rate_hz, **options
    )


def sound_file(change):
    return lambda root: change(refavs.audio_path(root, KEY))


def without(*parts):
    """Remove a folder."""
    return lambda root: shutil.rmtree(root.joinpath(*parts))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def cut_header(path):
    path.write_bytes(path.read_bytes()[:20])


def claim_hours(path):
    """Make the header claim 3 h of sound, whatever the file holds."""
    wav, size = bytearray(path.read_bytes()), 3 * 3600 * 32000
    wav[4:8], wav[40:44] = struct.pack("<I", size + 36), struct.pack("<I", size)
    path.write_bytes(wav)


def last_hours(path):
    claim_hours(path)
    with path.open("r+b") as file:
        file.truncate(44 + 3 * 3600 * 32000)  # sparse, so it takes no disk space


def telephone(path):
    """Write GSM 6.10, whose number of samples libsndfile doesn't know."""
    soundfile.write(path, np.zeros(80_000), 8_000, format="WAV", subtype="GSM610")


def prose(path):
    path.write_text("not what the name says")


def picture(mode, size=SIZE, colour=0):
    return lambda path: Image.new(mode, size, colour).save(path)


def claim(width, height):
    """Write a PNG of one pixel whose header claims more."""

    def damage(path):
        Image.new("L", (1, 1)).save(path, format="PNG")
        png = bytearray(path.read_bytes())
        png[16:24] = struct.pack(">II", width, height)
        png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
        path.write_bytes(png)

    return damage


def all_masks(mode, size=SIZE, colour=0, key=KEY, fid=2, patch=None):
    def damage(root):
        for t in range(10):
            image = Image.new(mode, size, colour)
            if patch is not None:
                image.paste(patch, (3, 3, 9, 9))
            image.save(refavs.mask_path(root, key, fid, t))

    return damage


def alpha_masks(mode, colour):
    """Write opaque objects on a transparent background of the same colour."""

    def damage(root):
        for path in refavs.mask_paths(root, KEY, 2):
            alpha = Image.open(path).convert("L")
            colours = Image.new(mode[:-1], alpha.size, colour)
            colours.putalpha(alpha)
            colours.save(path)

    return damage


def palette_masks(*colours, transparent):
    """Write palette images whose object is index 1; `transparent` is an index."""

    def damage(root):
        for path in refavs.mask_paths(root, KEY, 2):
            indices = Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8), "P")
            indices.putpalette([value for colour in colours for value in colour])
            indices.save(path, transparency=transparent)

    return damage


def deep_masks(value):
    """Write 16-bit masks."""

    def damage(root):
        for path in refavs.mask_paths(root, KEY, 2):
            mask = np.array(Image.open(path)) > 0
            Image.fromarray(mask.astype(np.uint16) * np.uint16(value)).save(path)

    return damage


def all_frames(change):
    """Save every frame of both clips again: `change` returns the image and options of `save`."""

    def damage(root):
        for path in [*refavs.frame_paths(root, KEY), *refavs.frame_paths(root, NULL)]:
            with Image.open(path) as frame:
                frame.load()
            changed, options = change(frame)
            changed.save(path, **options)

    return damage


def oriented(orientation):
    def change(frame):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        return frame, {"format": "JPEG", "exif": exif}

    return change


def translucent(alpha):
    def change(frame):
        frame = frame.convert("RGB")
        frame.putalpha(alpha)
        return frame, {"format": "PNG"}

    return change


def copies(pattern, numbers, folder):
    """Copy the last picture of a folder to other names."""

    def damage(root):
        last = sorted((root / folder).iterdir())[-1]
        for number in numbers:
            shutil.copy(last, root / folder / pattern.format(number))

    return damage


def floats(change):
    """Write float samples: a sine of amplitude 1 after `change`."""
    return sound(change(SINE).astype(np.float32), 16000, subtype="FLOAT")


def gray_frames(root):
    for t in range(10):
        picture("L", colour=t)(refavs.frame_path(root, KEY, t))


NAN = np.full(160000, np.nan)
SINE = np.sin(2 * np.pi * 440 * np.arange(160000) / 16000)
CSV, MEDIA = "{root}/metadata.csv", "{root}/media/vidC_1_2"
WAV, JPG = f"{MEDIA}/audio.wav", f"{MEDIA}/frames/3.jpg"
FID, PNG = "{root}/gt_mask/vidC_1_2/fid_2", "{root}/gt_mask/vidC_1_2/fid_2/00003.png"
NEW = "metadata.csv row 3 (uid 'vidC_1_2_cat_9')"
FRAMES_READ = "only the 10 pictures 0.jpg to 9.jpg are read; ignored: "
MASKS_READ = "only the 10 pictures 00000.png to 00009.png are read; ignored: "
FULL_SCALE = "full scale is 1; read as they are, so rescale integers that were written as floats"
OPAQUE = "alpha differs from the object; colours are read as if opaque"
FOLDERLESS = "the uid does not name a folder inside the data set"

# Stops both commands at once.
ERRORS = {
    "metadata missing": (
        lambda root: (root / "metadata.csv").unlink(),
        f"{CSV}: no such file; expected a data set, a folder with metadata.csv, media/ and "
        "gt_mask/",
    ),
    "metadata empty": (
        content(lambda old: b""),
        f"{CSV}: not a CSV table (No columns to parse from file)",
    ),
    "no rows": (content(lambda old: old.splitlines()[0]), f"{CSV}: no rows below the header"),
    "column missing": (
        content(lambda old: old.replace(b",fid,", b",object,", 1)),
        f"{CSV}: column 'fid' is missing, found: 'vid', 'uid', 'split', 'object', 'exp'",
    ),
    "UTF-16": (
        content(lambda old: old.decode().encode("utf-16")),
        f"{CSV}: line 1 is not UTF-8 (byte 0xff); save the file as UTF-8",
    ),
    "latin-1": (
        content(lambda old: old.replace(b"green", "grün".encode("latin-1"))),
        f"{CSV}: line 2 is not UTF-8 (byte 0xfc); save the file as UTF-8",
    ),
    "quote left open": (
        content(lambda old: old.rstrip()[:-1]),
        f"{CSV}: not a CSV table (Error tokenizing data. C error: EOF inside string starting at "
        "row 3)",
    ),
    "a field too many": (
        content(lambda old: old + b"a,b,c,d,e,f\r\n"),
        f"{CSV}: not a CSV table (Error tokenizing data. C error: Expected 5 fields in line 5, "
        "saw 6)",
    ),
    "a field too many in every row": (
        content(lambda old: old.replace(b'"\r\n', b'",more\r\n')),
        f"{CSV}: rows have more fields than the header",
    ),
    "kinds unknown": (
        kinds("seen", "new"),
        "{root}/kinds.csv: kinds of 'vidC_1_2_hair-dryer_2' are 'new', expected seen or unseen",
    ),
    "nothing usable": (
        lambda root: tiny.write_metadata(root, [(KEY, f"{KEY}_cat_1", "TODO", 2, "x")]),
        "no usable row in metadata.csv: all are marked TODO",
    ),
}

# Makes rows or clips unusable.
FATAL = {
    "row without kinds": (
        kinds("seen"),
        "metadata.csv row 1 (uid 'vidC_1_2_hair-dryer_2'): its uid is missing from kinds.csv; "
        "add it with seen or unseen",
    ),
    "split unknown": (
        row(split="trian"),
        f"{NEW}: unknown split 'trian', expected one of train, val, test_s, test_u, test_n",
    ),
    "uid without object": (
        row(uid="cat"),
        "metadata.csv row 3 (uid 'cat'): the uid does not end in _<object>_<number>",
    ),
    "uid climbs": (
        row(uid="../../etc/cat_1_1"),
        f"metadata.csv row 3 (uid '../../etc/cat_1_1'): {FOLDERLESS}",
    ),
    "uid absolute": (row(uid="/etc_cat_1"), f"metadata.csv row 3 (uid '/etc_cat_1'): {FOLDERLESS}"),
    "uid dots": (row(uid=".._cat_1"), f"metadata.csv row 3 (uid '.._cat_1'): {FOLDERLESS}"),
    "uid too long": (
        row(uid="a" * 300 + "_cat_1"),
        f"metadata.csv row 3 (uid '{'a' * 300}_cat_1'): the uid is too long for a folder name, at "
        "most 255 bytes are allowed",
    ),
    "uid with a line break": (
        row(uid="gone\n_cat_1"),
        r"{root}/media/gone\n/frames/0.jpg: no such file; expected one per frame",
    ),
    "row of a clip that is not there": (
        row(uid="gone_cat_1"),
        "{root}/media/gone/frames/0.jpg: no such file; expected one per frame",
    ),
    "fid a word": (row(fid="one"), f"{NEW}: fid 'one' is not an object number"),
    "fid negative": (row(fid="-1"), f"{NEW}: fid '-1' is not an object number"),
    "fid of other digits": (row(fid="²"), f"{NEW}: fid '²' is not an object number"),
    "fid absurd": (row(fid="9" * 9), f"{NEW}: fid '999999999' is not an object number"),
    "fid without masks": (
        row(fid="7"),
        "{root}/gt_mask/vidC_1_2/fid_7/00000.png: no such file; expected one per frame",
    ),
    "expression empty": (row(exp=" "), f"{NEW}: the expression is empty"),
    "null among seen objects": (
        row(split="test_s", uid="null_m-gone_null_1", fid="0"),
        "metadata.csv row 3 (uid 'null_m-gone_null_1'): null rows can't be scored in split test_s; "
        "move it to test_n",
    ),
    "null among unseen objects": (
        row(split="test_u", uid="null_c-gone_null_1", fid="0"),
        "metadata.csv row 3 (uid 'null_c-gone_null_1'): null rows can't be scored in split test_u; "
        "move it to test_n",
    ),
    "an object among null rows": (
        row(split="test_n", uid="gone_cat_1"),
        "metadata.csv row 3 (uid 'gone_cat_1'): split test_n is for null rows, whose uids start "
        "with null_c- or null_m-",
    ),
    "fields missing": (
        content(lambda old: old + b"vidC_1_2,vidC_1_2_cat_9,val,2\r\n"),
        f"{NEW}: the expression is empty",
    ),
    "media missing": (
        without("media"),
        "{root}: no media/ in it; only metadata.csv was checked, no clips",
    ),
    "masks of all missing": (
        without("gt_mask"),
        "{root}: no gt_mask/ in it; only metadata.csv was checked, no clips",
    ),
    "sound missing": (
        sound_file(Path.unlink),
        f"{WAV}: no such file; every clip needs a sound file",
    ),
    "sound file empty": (sound_file(empty), f"{WAV}: not readable as audio"),
    "sound header cut": (sound_file(cut_header), f"{WAV}: not readable as audio"),
    "not sound": (sound_file(prose), f"{WAV}: not readable as audio"),
    "sound of unknown length": (sound_file(telephone), f"{WAV}: not readable as audio"),
    "sound without samples": (
        sound(np.zeros(0), 16000),
        f"{WAV}: no samples; expected the sound of the clip",
    ),
    "sound of 3 hours": (
        sound_file(last_hours),
        f"{WAV}: 10800 s at 16000 Hz, channels: 1; at most 16777216 samples are accepted; cut it "
        "to the length of the clip",
    ),
    "sound at an absurd rate": (
        sound(np.zeros(9), 2**31 - 1),
        f"{WAV}: sampled at 2147483647 Hz, at most 192000 are accepted",
    ),
    "sound with NaN": (
        sound(NAN, 16000, subtype="FLOAT"),
        f"{WAV}: has samples that are not finite (NaN or infinity)",
    ),
    "sound with infinity": (
        floats(lambda sine: np.append(sine, np.inf)),
        f"{WAV}: has samples that are not finite (NaN or infinity)",
    ),
    "frames numbered with two digits": (
        lambda root: [
            path.rename(path.with_stem(f"0{path.stem}")) for path in refavs.frame_paths(root, KEY)
        ],
        f"{MEDIA}/frames/0.jpg: no such file; expected one per frame",
    ),
    "frames missing": (
        without("media", KEY, "frames"),
        f"{MEDIA}/frames/0.jpg: no such file; expected one per frame",
    ),
    "frame missing": (frame(Path.unlink), f"{JPG}: no such file; expected one per frame"),
    "frame truncated": (frame(truncate), f"{JPG}: not a readable picture ("),
    "frame empty": (frame(empty), f"{JPG}: not a readable picture (cannot identify image file"),
    "frame no picture": (frame(prose), f"{JPG}: not a readable picture (cannot identify image"),
    "frame of another size": (
        frame(picture("RGB", (9, 8))),
        f"{MEDIA}/frames: picture 3 is 9x8, the first one is 64x48; all pictures of a clip must "
        "have the same size",
    ),
    "frame large": (
        frame(claim(5000, 5000)),
        f"{JPG}: not a readable picture (5000x5000 pixels, at most 16777216 are accepted)",
    ),
    "frame larger": (
        frame(claim(10000, 12000)),
        f"{JPG}: not a readable picture (10000x12000 pixels, at most 16777216 are accepted)",
    ),
    "frame absurdly large": (
        frame(claim(99999, 99999)),
        f"{JPG}: not a readable picture (Image size (9999800001 pixels) exceeds limit of",
    ),
    "mask missing": (mask(Path.unlink), f"{PNG}: no such file; expected one per frame"),
    "masks missing": (
        without("gt_mask", KEY, "fid_2"),
        f"{FID}/00000.png: no such file; expected one per frame",
    ),
    "mask truncated": (mask(truncate), f"{PNG}: not a readable picture ("),
    "mask empty": (mask(empty), f"{PNG}: not a readable picture (cannot identify image file"),
    "mask of another size": (
        mask(picture("L", (9, 8))),
        f"{FID}: picture 3 is 9x8, the first one is 64x48; all pictures of a clip must have the "
        "same size",
    ),
    "mask absurdly large": (
        mask(claim(8000, 8000)),
        f"{PNG}: not a readable picture (8000x8000 pixels, at most 16777216 are accepted)",
    ),
}

# Used as it is, with a note.
NOTES = {
    "row twice": (
        lambda root: tiny.write_metadata(root, [*ROWS, ROWS[0]]),
        "metadata.csv rows 0, 3: they share the uid 'vidC_1_2_hair-dryer_1'; each row is scored "
        "separately",
    ),
    "expression twice": (
        row(exp="the GREEN  object"),
        "metadata.csv rows 0, 3: 'the green object' repeats an expression for the same object",
    ),
    "expression ambiguous": (
        row(fid="3"),
        "metadata.csv rows 0, 3: 'the green object' refers to several objects of vidC_1_2: 2, 3",
    ),
    "TODO": (row(split="TODO", fid="?"), f"{NEW}: marked TODO by the benchmark, ignored"),
    "placeholder": (row(exp="NO."), f"{NEW}: 'NO.' is a placeholder of the annotation tool, not"),
    "expression very long": (
        row(exp="very " * 5000 + "long"),
        f"{NEW}: the expression has at least 5003 tokens; text.max_tokens, 25 by default, cuts off",
    ),
    "expression a word too long": (
        row(exp="one " * 24),
        f"{NEW}: the expression has at least 26 tokens; text.max_tokens, 25 by default, cuts off",
    ),
    "expression with too many signs": (
        row(exp="the cat, the dog, the cow, the tuba, the harp, the man, the car, 9 keys."),
        f"{NEW}: the expression has at least 26 tokens; text.max_tokens, 25 by default, cuts off",
    ),
    "expression of lines": (
        row(exp="The green\r\nobject"),
        f"{NEW}: the expression has line breaks or other control characters",
    ),
    "expression with markup": (
        row(exp="<b>The green</b> object"),
        f"{NEW}: the expression has markup, which is read as text",
    ),
    "expression in another script": (
        row(exp="绿色的东西"),
        f"{NEW}: the expression has letters or symbols that are not Latin",
    ),
    "expression with emoji": (
        row(exp="The 🎻"),
        f"{NEW}: the expression has letters or symbols that are not Latin",
    ),
    "sound truncated": (
        sound_file(truncate),
        f"{WAV}: 5.0 s of sound, expected 10; padded with silence",
    ),
    "sound too short": (
        sound(np.zeros(1), 16000),
        f"{WAV}: 0.0 s of sound, expected 10; padded with silence",
    ),
    "sound too long": (
        sound(np.zeros(16000 * 12), 16000),
        f"{WAV}: 12.0 s of sound, expected 10; the rest is cut off",
    ),
    "sound a third of a second too long": (
        sound(np.zeros(16000 * 31 // 3), 16000),
        f"{WAV}: 10.3 s of sound, expected 10; the rest is cut off",
    ),
    "sound beyond full scale": (
        floats(lambda sine: 1.5 * sine),
        f"{WAV}: samples up to 1.5, {FULL_SCALE}",
    ),
    "sound of 16-bit numbers as floats": (
        floats(lambda sine: np.rint(32767 * sine)),
        f"{WAV}: samples up to 32767, {FULL_SCALE}",
    ),
    "sound of 32-bit numbers as floats": (
        floats(lambda sine: 2.0**31 * sine),
        f"{WAV}: samples up to 2.14748e+09, {FULL_SCALE}",
    ),
    "sound of unsigned 8-bit numbers as floats": (
        floats(lambda sine: np.rint(127 * sine) + 128),
        f"{WAV}: samples up to 255, {FULL_SCALE}",
    ),
    "sound at 8 kHz": (
        sound(np.zeros(80000), 8000),
        f"{WAV}: sampled at 8000 Hz; nothing above 4000 Hz",
    ),
    "sound of 6 channels": (
        sound(np.zeros((160000, 6)), 16000),
        f"{WAV}: 6 channels, averaged like stereo",
    ),
    "frames gray": (
        gray_frames,
        f"{MEDIA}/frames: gray pictures; colours named in expressions can't be recognised",
    ),
    "an eleventh frame": (
        copies("{}.jpg", [10], f"media/{KEY}/frames"),
        f"{MEDIA}/frames: {FRAMES_READ}10.jpg (1 in all)",
    ),
    "25 frames a second": (
        copies("{}.jpg", range(10, 250), f"media/{KEY}/frames"),
        f"{MEDIA}/frames: {FRAMES_READ}10.jpg, 100.jpg, 101.jpg, ... (240 in all)",
    ),
    "frames of other names": (
        copies("{}.PNG", [0, 1], f"media/{KEY}/frames"),
        f"{MEDIA}/frames: {FRAMES_READ}0.PNG, 1.PNG (2 in all)",
    ),
    "masks beyond the frames": (
        copies("{:05d}.png", [10, 11], f"gt_mask/{KEY}/fid_2"),
        f"{FID}: {MASKS_READ}00010.png, 00011.png (2 in all)",
    ),
    "null masks beyond the frames": (
        copies("{:05d}.png", [10], f"gt_mask/{NULL}/fid_0"),
        f"{{root}}/gt_mask/{NULL}/fid_0: {MASKS_READ}00010.png (1 in all)",
    ),
    "a clip without rows": (
        lambda root: shutil.copytree(root / "media" / KEY, root / "media" / "other"),
        "{root}/media: ignored folders, named by no row of metadata.csv: other (1 in all)",
    ),
    "masks without rows": (
        lambda root: shutil.copytree(root / "gt_mask" / KEY, root / "gt_mask" / "other"),
        "{root}/gt_mask: ignored folders, named by no row of metadata.csv: other (1 in all)",
    ),
    "frames turned": (
        all_frames(oriented(3)),
        f"{MEDIA}/frames: EXIF orientation applied; the benchmark's own code leaves frames as",
    ),
    "frames on their side": (
        all_frames(oriented(6)),
        f"{FID}: masks are 64x48, frames 48x64; scored at the masks' size",
    ),
    "frames transparent": (
        all_frames(translucent(128)),
        f"{MEDIA}/frames: partly transparent; alpha is ignored, colours are read as if opaque",
    ),
    "masks in alpha": (alpha_masks("RGBA", (255,) * 3), f"{FID}: {OPAQUE}"),
    "masks in alpha, gray": (alpha_masks("LA", 255), f"{FID}: {OPAQUE}"),
    "masks in alpha, black": (alpha_masks("RGBA", (0,) * 3), f"{FID}: {OPAQUE}"),
    "masks of transparent objects": (
        palette_masks((0, 0, 0), (255, 255, 255), transparent=1),
        f"{FID}: {OPAQUE}",
    ),
    "masks of 16 bits, ids": (
        deep_masks(2),
        f"{FID}: 16 bits; the benchmark's own code reads values under 256 as black",
    ),
    "masks of dark red": (
        all_masks("RGB", patch=(1, 0, 0)),
        f"{FID}: black on every frame although the clip is not null",
    ),
    "masks white throughout": (
        all_masks("L", colour=255),
        f"{FID}: the object fills every frame completely",
    ),
    "masks of two colours, one dark": (
        all_masks("RGB", colour=(0, 0, 4), patch=(0, 0, 5)),
        f"{FID}: colours such as RGB (0, 0, 4) have a gray of 0 and are not the object",
    ),
    "masks of another size": (
        all_masks("L", (32, 24), patch=255),
        f"{FID}: masks are 32x24, frames 64x48; scored at the masks' size",
    ),
    "masks gray": (
        all_masks("L", patch=7),
        f"{FID}: not black and white; the object is where OpenCV's gray is above 0",
    ),
    "masks coloured": (
        all_masks("RGB", patch=(255, 0, 0)),
        f"{FID}: not black and white; the object is where OpenCV's gray is above 0",
    ),
    "masks black": (all_masks("L"), f"{FID}: black on every frame although the clip is not null"),
    "null masks not black": (
        all_masks("L", colour=255, key=NULL, fid=0),
        "{root}/gt_mask/null_m-vidC_1_2/fid_0: not black although the clip is null; make "
        "them black or remove them",
    ),
}

HARMLESS = {
    "nothing": lambda root: None,
    "LF": content(lambda old: old.replace(b"\r\n", b"\n")),
    "byte order mark": content(lambda old: b"\xef\xbb\xbf" + old),
    "quotes": row(exp='The "green" object\'s “twin”, small; it\u2019s left'),
    "accents": row(exp="The façade on the left"),
    "44.1 kHz stereo": sound(np.zeros((441000, 2)), 44100),
    "48 kHz": sound(np.zeros(480000), 48000, subtype="FLOAT"),
    "sound header claims 3 hours": sound_file(claim_hours),
    "sound a little too long": sound(np.zeros(16000 * 10 + 1000), 16000),
    "sound at full scale": sound(SINE, 16000, subtype="PCM_16"),
    "sound of 8 bits": sound(SINE, 16000, subtype="PCM_U8"),
    "sound of 32 bits": sound(SINE, 16000, subtype="PCM_32"),
    "sound of 64-bit floats": sound(SINE, 16000, subtype="DOUBLE"),
    "palette masks": all_masks("1", patch=1),
    "palette masks on a transparent ground": palette_masks(
        (0, 0, 0), (255, 255, 255), transparent=0
    ),
    "opaque masks with alpha": all_masks("RGBA", colour=(0, 0, 0, 255), patch=(255,) * 4),
    "opaque gray masks with alpha": all_masks("LA", colour=(0, 255), patch=(255, 255)),
    "masks whose alpha is the object": all_masks("RGBA", patch=(255,) * 4),
    "masks of 16 bits": deep_masks(65535),
    "opaque frames with alpha": all_frames(translucent(255)),
    "frames said to be upright": all_frames(oriented(1)),
    "frames of no known orientation": all_frames(oriented(9)),
    "expression as long as is read": row(exp="it's one " * 7 + "x y"),
    "PNG named .jpg": frame(lambda path: Image.new("RGB", SIZE).save(path, format="PNG")),
    "null masks missing": without("gt_mask", NULL),
    "kinds of val": kinds("seen", "unseen"),
    "kinds of no row": kinds(),
    "null mask missing": mask(Path.unlink, key=NULL, fid=0),
    "stray files": lambda root: prose(root / "gt_mask" / KEY / ".DS_Store"),
}


@pytest.fixture
def root(refavs_root, tmp_path):
    """Two clips of the tiny data set, one of them null, and their three rows, all of val."""
    own = tmp_path / "Ünsere data: set"
    for folder in ("media", "gt_mask"):
        for key in (KEY, NULL):
            shutil.copytree(refavs_root / folder / key, own / folder / key)
    tiny.write_metadata(own, ROWS)
    return own


def check(root, *options):
    """Run `sam2love check`; return its lines on faults, except STANDING ones, and its status."""
    done = CliRunner().invoke(app, ["check", str(root), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    lines = [line for line in lines if line.split(":")[0] in ("error", "fatal", "note")]
    return [line for line in lines if not any(part in line for part in STANDING)], done.exit_code


STANDING = ("does not occur in train", "no usable rows in split")
"""In notes on every data set of this file."""


def stage(root, monkeypatch):
    """Run the stage `index`; return its exit code, 0 or an error message."""
    monkeypatch.setattr(sys, "argv", ["index", str(root), str(root / "index")])
    with pytest.raises(SystemExit) as end:
        run(index.main)
    assert (end.value.code == 0) == (root / "index" / "clips.csv").is_file()
    return end.value.code


@pytest.mark.parametrize("name", ERRORS)
def test_error_stops_at_once(root, monkeypatch, name):
    damage, message = ERRORS[name]
    damage(root)
    error = f"error: {message.format(root=root)}"
    assert stage(root, monkeypatch) == error
    lines, status = check(root)
    assert status == 1
    assert lines == [error] or name == "nothing usable"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as pictures.py does
@pytest.mark.parametrize("name", FATAL)
def test_fatal_fault(root, monkeypatch, name):
    damage, message = FATAL[name]
    damage(root)
    lines, status = check(root)
    assert status == 1
    fatal = [line for line in lines if line.startswith("fatal")]
    assert fatal[0].startswith(f"fatal: {message.format(root=root)}")
    assert len(fatal) == (3 if "/media/gone" in message else 1)  # a clip without any file
    error = f"error: fatal faults in the data set: {len(fatal)}; fix or remove what is listed"
    assert stage(root, monkeypatch).splitlines() == [error, *fatal]


@pytest.mark.parametrize("name", NOTES)
def test_note(root, monkeypatch, capsys, name):
    damage, message = NOTES[name]
    damage(root)
    lines, status = check(root)
    assert status == 0
    assert [line for line in lines if line.startswith(f"note: {message.format(root=root)}")]
    assert stage(root, monkeypatch) == 0
    if "twice" not in name and "ambiguous" not in name:  # only `check` notes these
        assert f"note: {message.format(root=root)}" in capsys.readouterr().out


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_oddity(root, monkeypatch, name):
    HARMLESS[name](root)
    assert check(root) == ([], 0)
    assert stage(root, monkeypatch) == 0


# ---- the rest -----------------------------------------------------------------------------------


def examined(root):
    lines = []
    return lines, examine(root, write=lines.append)


def test_frames_and_masks_are_rotated_alike(root):
    """All are stored sideways, so that upright they have the same size."""
    all_frames(oriented(6))(root)
    for path in (root / "gt_mask").rglob("*.png"):
        turned, options = oriented(6)(Image.open(path))
        turned.save(path, exif=options["exif"])
    assert not [line for line in check(root)[0] if "masks are" in line]


def test_a_data_set_without_fatal_faults(refavs_root):
    lines, usable = examined(refavs_root)
    assert usable
    assert not [line for line in lines if line.startswith("fatal")]
    assert lines[-8:] == [
        "9 clips, 5 with distinct frames",
        "train: 8 of 8 rows usable, 1 null, 3 clips, 5 texts",
        "val: 3 of 3 rows usable, 1 null, 2 clips, 2 texts",
        "test_s: 3 of 3 rows usable, 0 null, 1 clips, 3 texts",
        "test_u: 3 of 3 rows usable, 0 null, 1 clips, 2 texts",
        "test_n: 3 of 3 rows usable, 3 null, 2 clips, 3 texts",
        "score --only cleaned: val 3, test_s 3, test_u 2, test_n 3 rows",
        "score --only unseen-expressions: val 1, test_s 2, test_u 3, test_n 2 rows",
    ]
    unseen = "'the yellow object' of test_s does not occur in train"
    leaked = "'the sounding object' of val, test_n also occurs in train"
    assert f"note: metadata.csv row 12: {unseen}" in lines
    assert f"note: metadata.csv rows 10, 11, 18: {leaked}" in lines


def test_every_fault_has_its_line_and_the_rest_is_counted(own_refavs_root):
    refavs.frame_path(own_refavs_root, "vidA_0_10000", 3).unlink()
    refavs.audio_path(own_refavs_root, "vidA_0_10000").unlink()
    truncate(refavs.mask_path(own_refavs_root, "vidA_0_10000", 2, 5))
    refavs.audio_path(own_refavs_root, "vidC_1_2").write_bytes(b"")
    lines, usable = examined(own_refavs_root)
    assert not usable
    fatal = [line for line in lines if line.startswith("fatal")]
    assert len(fatal) == 4
    for part in ("10000/frames/3.jpg", "10000/audio.wav", "fid_2/00005.png", "C_1_2/audio.wav"):
        assert any(part in line for line in fatal)
    assert any(line.startswith("train: 3 of 8 rows usable") for line in lines)


def test_many_faults_of_a_kind_are_counted_unless_all_are_asked_for(root):
    faulty = [(KEY, f"{KEY}_cat_{n}", "valley", 2, "x") for n in range(1000)]
    tiny.write_metadata(root, [*faulty, ROWS[-1]])
    lines, status = check(root)
    assert status == 1
    assert lines[:5] == [line for line in lines if "valley" in line]
    assert lines[5] == "fatal: 1000 faulty rows in all; sam2love check --all lists them"
    assert len(lines) == 6
    lines, _ = check(root, "--all")
    assert len(lines) == 1000


def test_only_metadata(root):
    shutil.rmtree(root / "media")
    shutil.rmtree(root / "gt_mask")
    lines, usable = examined(root)
    assert not usable
    assert lines[0] == (
        f"fatal: {root}: no media/ and no gt_mask/ in it; only metadata.csv was checked, no clips"
    )
    assert not [line for line in lines[1:] if line.startswith("fatal")]
    assert "val: 3 of 3 rows usable, 1 null, 2 clips, 2 texts" in lines


def test_splits_without_rows(root, monkeypatch, capsys):
    lines, usable = examined(root)
    assert usable
    note = "note: metadata.csv: no usable rows in split 'test_u', required for scores on unseen"
    assert [line for line in lines if line.startswith(note)]
    assert stage(root, monkeypatch) == 0
    assert note in capsys.readouterr().out


def test_metadata_is_reported_before_any_clip_is_read(root, monkeypatch):
    tiny.write_metadata(root, [*ROWS, (KEY, f"{KEY}_cat_9", "valley", 2, "x")])
    lines = []

    def survey_clips(_, **__):
        assert "valley" in lines[0]
        raise KeyboardInterrupt

    monkeypatch.setattr("sam2love.dataset.check.survey_clips", survey_clips)
    with pytest.raises(KeyboardInterrupt):
        examine(root, write=lines.append)


@pytest.mark.parametrize("off", [False, True])
def test_the_environment_can_switch_the_bar_off(root, monkeypatch, off):
    if off:
        monkeypatch.setenv("TQDM_DISABLE", "1")
    command = [sys.executable, "-m", "sam2love", "check", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert ("checking clips" in done.stderr) != off


def test_missing_folder(tmp_path):
    done = CliRunner().invoke(app, ["check", str(tmp_path / "gone")])
    assert done.exit_code == 1
    assert f"{tmp_path}/gone: no such folder; expected a data set" in done.output


@pytest.mark.parametrize("argument", ["--help", "check --help"])
def test_help_loads_nothing_heavy(argument):
    code = (
        "import sys; sys.argv = ['sam2love', *sys.argv[1:]]\n"
        "from sam2love.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'cv2', 'zarr', 'sam2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", code, *argument.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
