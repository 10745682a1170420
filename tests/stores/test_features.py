"""Batches of features against items read from the stores one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sam2love.dataset.index import Index, read_index
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from sam2love.stores.names import EMBEDDING_LEVELS
from sam2love.stores.store import ArraySpec, FeatureStore, fill_store
from tests import tiny

AUDIO, CLS, TEXT, PATCHES = 6, 5, 7, 4
LENGTHS = {"a cat": 4, "the object that sounds last": 9}
CLIPS = pd.DataFrame(
    [("a", "a"), ("b", "b"), ("null_m-a", "a")],
    columns=["key", "frames_key"],
)
EXPRESSIONS = pd.DataFrame(
    [
        ("b", "the object that sounds last"),
        ("null_m-a", "a cat"),
        ("a", "a cat"),
    ],
    columns=["key", "exp"],
)
INDEX = Index(CLIPS, EXPRESSIONS, families=pd.DataFrame(), kinds=pd.DataFrame())


def fill(path: Path, ids: list[str], shapes: dict[str, tuple[int, ...]], lengths=None) -> None:
    rng = np.random.default_rng(len(path.name))
    specs = [ArraySpec(name, shape, "float16", 4, "made up") for name, shape in shapes.items()]
    items = {name: rng.normal(size=(len(ids), *shape)) for name, shape in shapes.items()}
    if lengths:
        specs.append(ArraySpec("length", (), "int32", 4, "tokens"))
        items["length"] = np.array([lengths[name] for name in ids])

    def encode(batch: list[str]) -> dict[str, np.ndarray]:
        rows = [ids.index(name) for name in batch]
        return {name: array[rows] for name, array in items.items()}

    fill_store(
        path,
        specs=specs,
        ids=ids,
        provenance={"stage": path.stem},
        encode=encode,
        batch_size=4,
        description="tiny",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Stores of random numbers; of clip b's SAM 2 embeddings only the first frame is stored."""
    folder = tmp_path_factory.mktemp("features")
    fill(folder / "audio.zarr", ["a", "b", "null_m-a"], {"audio": (10, AUDIO)})
    frames = {"patches": (10, PATCHES, CLS), "cls": (10, CLS)}
    fill(folder / "vision.zarr", ["a", "b"], frames)
    fill(folder / "text.zarr", list(LENGTHS), {"tokens": (12, TEXT)}, LENGTHS)
    levels = dict(zip(EMBEDDING_LEVELS, [(8, 2, 2), (1, 8, 8), (2, 4, 4)], strict=True))
    fill(folder / "sam2.zarr", [*(f"a/{t}" for t in range(10)), "b/0"], levels)
    return folder


def stored(folder: Path, store: str, name: str, item: str) -> torch.Tensor:
    return torch.from_numpy(FeatureStore.open(folder / store).read(name, item))


def test_rows_are_joined_with_their_audio_frames_and_text(folder):
    features = FeatureReader(folder, INDEX).features(EXPRESSIONS)
    frames_keys = ["b", "a", "a"]
    for row, (key, text) in enumerate(EXPRESSIONS.itertuples(index=False)):
        sound = stored(folder, "audio.zarr", "audio", key)
        torch.testing.assert_close(features.audio[row], sound, rtol=0, atol=0)
        for name, batch in (("patches", features.patches), ("cls", features.cls)):
            expected = stored(folder, "vision.zarr", name, frames_keys[row])
            torch.testing.assert_close(batch[row], expected, rtol=0, atol=0)
        tokens = stored(folder, "text.zarr", "tokens", text)[:9]
        torch.testing.assert_close(features.text[row], tokens, rtol=0, atol=0)
    # The null clip has a's frames and other audio.
    assert not torch.equal(features.audio[1], features.audio[2])


def test_text_is_truncated_to_the_longest_of_the_batch_and_padding_is_masked(folder):
    features = FeatureReader(folder, INDEX).features(EXPRESSIONS)
    assert features.text.shape == (3, 9, TEXT)
    assert features.text_mask.dtype == torch.bool
    assert features.text_mask.sum(1).tolist() == [9, 4, 4]
    assert features.text_mask[:, :4].all()
    alone = FeatureReader(folder, INDEX).features(EXPRESSIONS[1:])
    assert alone.text.shape == (2, 4, TEXT)
    assert alone.text_mask.all()


def test_first_frames_come_with_all_of_the_audio(folder):
    reader = FeatureReader(folder, INDEX)
    whole, first = reader.features(EXPRESSIONS), reader.features(EXPRESSIONS, frames=3)
    assert first.patches.shape == (3, 3, PATCHES, CLS)
    assert torch.equal(first.cls, whole.cls[:, :3])
    assert torch.equal(first.audio, whole.audio)
    assert torch.equal(first.text_mask, whole.text_mask)


def test_moving_keeps_masks_and_converts_to_float32(folder):
    moved = FeatureReader(folder, INDEX).features(EXPRESSIONS).to("cpu")
    assert {part.dtype for part in moved[:4]} == {torch.float32}
    assert moved.text_mask.dtype == torch.bool


def test_dims(folder):
    expected = {"patches": PATCHES, "audio_dim": AUDIO, "visual_dim": CLS, "text_dim": TEXT}
    assert FeatureReader(folder, INDEX).dims == expected


def test_embeddings_in_the_given_order(folder):
    levels = FeatureReader(folder, INDEX).embeddings(["null_m-a", "a"], frames=[4, 0])
    for name, level in zip(EMBEDDING_LEVELS, levels, strict=True):
        assert level.shape[:2] == (2, 2)
        for clip in range(2):  # with the same frames
            for place, frame in enumerate([4, 0]):
                expected = stored(folder, "sam2.zarr", name, f"a/{frame}")
                torch.testing.assert_close(level[clip, place], expected, rtol=0, atol=0)


def test_a_frame_that_is_not_stored_names_the_stage(folder):
    reader = FeatureReader(folder, INDEX)
    assert reader.embeddings(["b"], frames=[0])[0].shape == (1, 1, 8, 2, 2)
    assert reader.missing_frames("null_m-a") == []
    assert reader.missing_frames("b") == list(range(1, 10))
    with pytest.raises(ValueError, match=r"sam2\.zarr: no item 'b/1'; run the stage"):
        reader.embeddings(["b"])


def test_an_expression_without_features_names_the_stage(folder):
    unknown = EXPRESSIONS.assign(exp="never encoded")
    with pytest.raises(ValueError, match=r"text\.zarr: no item 'never encoded'; run the stage"):
        FeatureReader(folder, INDEX).features(unknown)


@pytest.mark.parametrize(
    ("change", "store", "key", "stage"),
    [
        ({"vision.digest": "0" * 64}, "vision", "weights", "vision"),
        ({"audio.post_relu": True}, "audio", "post_relu", "audio"),
        ({"text.max_tokens": 7}, "text", "preprocessing", "text"),
        ({"sam2.train_high_res_convs": True}, "sam2", "before_high_res_convs", "embeddings"),
        ({"sam2.keep_bits": 7}, "sam2", "keep_bits", "embeddings"),
    ],
)
def test_stores_of_other_parameters_are_refused(
    feature_folder, tmp_path, change, store, key, stage
):
    path = tmp_path / "params.yaml"
    path.write_bytes((feature_folder / "params.yaml").read_bytes())
    index = read_index(feature_folder / "index")
    same = FeatureReader(feature_folder, index, params=load_params(path))
    same.features(index.expressions[:2])
    same.embeddings([index.clips["key"][0]], frames=[0])
    tiny.change_params(path, change)
    other = FeatureReader(feature_folder, index, params=load_params(path))
    message = rf"{store}\.zarr: its .* has {key} .*, expected .*; run the stage '{stage}' again$"
    with pytest.raises(ValueError, match=message):
        other._store(store)


def test_audio_of_another_length_is_refused(feature_folder):
    params = load_params(feature_folder / "params.yaml")
    longer = params.model_copy(update={"data": params.data.model_copy(update={"frames": 12})})
    reader = FeatureReader(feature_folder, read_index(feature_folder / "index"), params=longer)
    message = r"audio\.zarr: has 10 s of each clip, but data\.frames is 12; run the stage 'audio'"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            reader._store("audio")


def test_stores_of_other_inputs_are_refused(feature_folder):
    index = read_index(feature_folder / "index")
    params = load_params(feature_folder / "params.yaml")
    changed = replace(index, clips=index.clips.assign(audio_digest="other"))
    with pytest.raises(ValueError, match=r"audio\.zarr: its provenance has inputs"):
        FeatureReader(feature_folder, changed, params=params)._store("audio")


def test_a_missing_store_names_the_stage(feature_folder, tmp_path):
    index = read_index(feature_folder / "index")
    reader = FeatureReader(tmp_path, index, params=load_params(feature_folder / "params.yaml"))
    message = r"sam2\.zarr: no such store; run the stage 'embeddings'$"
    with pytest.raises(FileNotFoundError, match=message):
        reader._store("sam2")
