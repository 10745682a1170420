"""The ViT's room: square pictures in, patches row by row and [cls] out."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from sam2love.encoders.vision import VisionEncoder, load_vision_encoder
from sam2love.weights import digest


@pytest.fixture(scope="module")
def encoder(vit_folder) -> VisionEncoder:
    return load_vision_encoder(str(vit_folder), digest(vit_folder))


def frames(n: int = 3, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_sizes(encoder):
    assert (encoder.dim, encoder.image_size, encoder.patches) == (8, 32, 16)
    images = encoder.preprocess(frames())
    assert images.shape == (3, 3, 32, 32)
    patches, cls = encoder.encode(images)
    assert patches.shape == (3, 16, 8)
    assert cls.shape == (3, 8)
    assert patches.dtype == cls.dtype == torch.float32


def test_features_are_timms_own(encoder, vit_folder):
    model = timm.create_model(f"local-dir:{vit_folder}", pretrained=True).eval()
    images = encoder.preprocess(frames())
    with torch.no_grad():
        expected = model.forward_features(images)
    patches, cls = encoder.encode(images)
    torch.testing.assert_close(cls, expected[:, 0], atol=0, rtol=0)
    torch.testing.assert_close(patches, expected[:, 1:], atol=0, rtol=0)


def test_preprocessing_is_pils_resize_to_the_square(encoder):
    """Low contrast, so that neither clips; PIL rounds to 8 bits in between."""
    smooth = (frames() // 2 + 60).astype(np.uint8)
    found = encoder.preprocess(smooth)
    for i, frame in enumerate(smooth):
        resized = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BICUBIC))
        expected = torch.from_numpy(resized.copy()).permute(2, 0, 1) / 255 * 2 - 1
        torch.testing.assert_close(found[i], expected, atol=0.02, rtol=0)


def test_preprocessing_keeps_the_range_and_the_edges(encoder):
    white = np.full((1, 48, 64, 3), 255, np.uint8)
    torch.testing.assert_close(encoder.preprocess(white), torch.ones(1, 3, 32, 32))
    edge = np.zeros((1, 48, 64, 3), np.uint8)
    edge[:, :, :4] = 255
    images = encoder.preprocess(edge)
    assert images.min() >= -1
    assert images.max() <= 1
    assert (images[..., 0] > 0.5).all()  # the outermost columns are still seen


def test_patches_are_row_by_row(encoder):
    """A change in one corner of the picture is felt most in that corner's patch."""
    images = torch.zeros(1, 3, 32, 32)
    changed = images.clone()
    changed[..., :8, 24:] = 1  # the right end of the first row of patches
    before, after = (encoder.encode(batch)[0][0] for batch in (images, changed))
    assert (after - before).norm(dim=1).argmax() == 3


def test_refuses_other_weights(vit_folder, roberta_folder, tmp_path):
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        load_vision_encoder(str(vit_folder), "0" * 64)
    with pytest.raises(ValueError, match="timm can't load it"):
        load_vision_encoder(str(roberta_folder), digest(roberta_folder))
    with pytest.raises(FileNotFoundError, match="no such weights"):
        load_vision_encoder(str(tmp_path / "gone"), "0" * 64)


def test_refuses_a_model_without_cls(tmp_path):
    model = timm.create_model("resnet18", num_classes=0)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match="not a vision transformer with a"):
        load_vision_encoder(str(tmp_path), digest(tmp_path))
