"""Changed inputs through real encoders; and that they catch a model that ignores sound."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from sam2love.dataset.index import CLIP_COLUMNS, Index, read_index
from sam2love.encoders.text import load_text_encoder
from sam2love.encoders.weights import digest
from sam2love.evaluation.reliance import CONDITIONS, reliance, verdicts
from sam2love.fusion import FusionTransformer
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.sam.build import build_sam2
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.stores.features import FeatureReader, Features
from sam2love.training.changed_inputs import PARTS, ChangedInputs, draw_donors, encode_blank
from sam2love.training.engine import start_engine
from sam2love.training.loop import fit
from sam2love.training.validation import in_batches, score_rows, validate
from tests import tiny
from tests.training.test_loop import PRETRAINED, TRAIN

CPU = torch.device("cpu")
OF_CONDITION = dict(zip(CONDITIONS[1:], np.repeat(list(PARTS), 2), strict=True))


# ---- the inputs ---------------------------------------------------------------------------------


@pytest.fixture
def reader(run_folder, feature_folder) -> FeatureReader:
    return FeatureReader(feature_folder, read_index(run_folder / "index"), params=load_params())


@pytest.fixture
def rows(run_folder) -> pd.DataFrame:
    """Five rows of three clips, two of them with the same sentence."""
    rows = read_index(run_folder / "index").expressions
    return rows[rows["row"].isin([0, 1, 6, 9, 10])]


def test_blank_is_what_the_encoders_make_of_nothing(reader, run_folder):
    blank = encode_blank(load_params(), device=CPU)
    expressions = read_index(run_folder / "index").expressions
    stored = reader.features(expressions[expressions["key"] == "null_m-vidA_0_10000"])
    torch.testing.assert_close(blank.audio, stored.audio)  # a muted clip's, from its file
    assert blank.patches.shape == (1, 10, 16, 8)
    assert blank.cls.shape == (1, 10, 8)
    assert blank.text.shape == (1, 2, 8)  # <s> and </s>
    assert blank.text_mask.tolist() == [[True, True]]
    assert (blank.patches == blank.patches[:, :1]).all()
    assert all(part.float().abs().sum() > 0 for part in blank)


def test_clip_encodes_an_empty_sentence_too(clip_folder):
    encoder = load_text_encoder(str(clip_folder), digest(clip_folder), max_tokens=25)
    tokens, lengths = encoder.encode([""])
    assert lengths.tolist() == [2]
    assert tokens[0, :2].abs().sum() > 0


def test_only_the_modality_named_changes(reader, rows, run_folder):
    donors = draw_donors(rows, read_index(run_folder / "index"))
    blank = encode_blank(load_params(), device=CPU)
    features = reader.features(rows).to(CPU)
    changed = dict(ChangedInputs(reader, donors=donors, blank=blank)(rows, features))
    assert list(changed) == CONDITIONS
    assert changed["intact"] is features
    other = reader.features(donors.loc[rows["row"]]).to(CPU)
    for condition, modality in OF_CONDITION.items():
        for part in Features._fields:
            found, own = getattr(changed[condition], part), getattr(features, part)
            assert len(found) == len(rows)
            if part not in PARTS[modality]:
                assert found is own, (condition, part)
            elif condition.endswith("swapped"):
                assert torch.equal(found, getattr(other, part))
            else:
                assert torch.equal(found, getattr(blank, part).expand(found.shape))


def test_donors_differ_and_are_the_same_each_time(rows, run_folder):
    index = read_index(run_folder / "index")
    donors = draw_donors(rows, index)
    assert donors.index.tolist() == rows["row"].tolist()
    own = rows.set_index("row")
    assert (donors["key"] != own["key"]).all()
    assert (donors["exp"] != own["exp"]).all()
    assert set(donors["key"]) <= set(own["key"])
    assert donors.equals(draw_donors(rows, index))


def test_clips_with_the_same_frames_are_no_donors_of_each_other(rows, run_folder):
    index = read_index(run_folder / "index")
    twin = {"vidC_1_2": "vidA_0_10000"}
    clips = index.clips.assign(frames_key=index.clips["key"].replace(twin))
    donors = draw_donors(rows, Index(clips, *list(vars(index).values())[1:]))
    of_twins = rows["key"].isin(["vidA_0_10000", "vidC_1_2"]).to_numpy()
    assert set(donors["key"][of_twins]) == {"-vidB_5000_15000"}


def test_a_single_clip_is_its_own_donor(rows, run_folder):
    alone = rows[rows["row"] == 6]
    donors = draw_donors(alone, read_index(run_folder / "index"))
    assert donors.reset_index().values.tolist() == alone[["row", "key", "exp"]].values.tolist()
    assert draw_donors(rows[:0], read_index(run_folder / "index")).empty


# ---- a model that ignores sound -----------------------------------------------------------------

CLIPS, FRAMES, PATCHES = 16, 2, 16
DIMS = {"audio_dim": 4, "visual_dim": 4, "text_dim": 4}
ROWS = pd.DataFrame(
    [(clip, f"clip_{clip:02d}", 1 + clip % 2, False, f"Number {clip}") for clip in range(CLIPS)],
    columns=["row", "key", "fid", "null", "exp"],
)
INDEX = Index(
    clips=pd.DataFrame({"key": ROWS["key"], "frames_key": ROWS["key"]}).reindex(
        columns=CLIP_COLUMNS
    ),
    expressions=ROWS,
    families=pd.DataFrame(),
    kinds=pd.DataFrame(),
)


class SoundDecides:
    """Stands for FeatureReader: a box on either side, and only the sound says which is meant."""

    frames = FRAMES

    def __init__(self, model: SAM2Love) -> None:
        rng = np.random.default_rng(0)
        self._masks = {fid: np.zeros((tiny.HEIGHT, tiny.WIDTH), bool) for fid in (1, 2)}
        self._masks[1][14:34, 6:26] = self._masks[2][14:34, 38:58] = True
        frames = rng.integers(60, 120, (CLIPS, tiny.HEIGHT, tiny.WIDTH, 3)).astype(np.uint8)
        for fid, mask in self._masks.items():
            frames[:, mask] = tiny.COLOURS[fid]
        self._levels = encode_frames(model.sam2, preprocess(frames, model.sam2.image_size))
        self.embeddings_read = 0

    def labels(self, keys: list[str], fids: list[int], **_) -> list[Tensor]:
        return [torch.from_numpy(self._masks[fid]) for fid in fids]

    def objects(self, key: str) -> list[int]:
        return [1, 2]

    def features(self, rows: pd.DataFrame, **_) -> Features:
        numbers = torch.tensor([int(key[-2:]) for key in rows["key"]])
        sound = (2.0 * (numbers % 2) - 1)[:, None, None].expand(-1, FRAMES, 4)
        same = torch.ones(len(rows), FRAMES, PATCHES, 4)
        text = torch.ones(len(rows), 2, 4)
        return Features(sound, same, same[:, :, 0], text, torch.ones(len(rows), 2) > 0)

    def embeddings(self, keys: list[str], **_) -> tuple[Tensor, ...]:
        self.embeddings_read += 1
        return tuple(level[[int(key[-2:]) for key in keys]][:, None] for level in self._levels)


def trained(modalities: tuple[str, ...], folder) -> tuple[SAM2Love, SoundDecides]:
    torch.manual_seed(0)
    sizes = {**tiny.FUSION, "dim": 16, "layers": 1, "modalities": modalities}
    sam2 = build_sam2(str(tiny.SAM2_CONFIG), PRETRAINED)
    model = SAM2Love(FusionTransformer(**DIMS, **sizes), sam2)
    reader = SoundDecides(model)
    settings = TRAIN.model_copy(update={"steps": 20, "batch_size": CLIPS})
    engine = start_engine(settings, device=CPU)
    folder.mkdir()
    fit(engine, model, ROWS, ROWS[:0], reader, train=settings, checkpoints=folder)
    return model.eval(), reader


def diagnosed(model: SAM2Love, reader: SoundDecides) -> pd.DataFrame:
    blank = Features(*(torch.zeros_like(part[:1]) for part in reader.features(ROWS)))
    blank = blank._replace(text_mask=torch.ones_like(blank.text_mask))
    changed = ChangedInputs(reader, donors=draw_donors(ROWS, INDEX), blank=blank)
    scores = score_rows(model, in_batches(ROWS, 5), reader, device=CPU, conditions=changed)
    return reliance(scores.merge(ROWS[["row", "key"]], on="row").assign(family=""))


def test_a_model_that_ignores_sound_is_caught(tmp_path):
    hearing, reader = trained(("audio", "text", "vision"), tmp_path / "hearing")
    read_before = reader.embeddings_read
    table = diagnosed(hearing, reader).set_index("condition")
    assert reader.embeddings_read - read_before == 4  # once per batch, not per condition
    assert table.loc["intact", "right"] == 100
    assert table.loc["sound swapped", "low"] > 0
    sound, sentence, picture = verdicts(table.reset_index())
    assert sound.startswith("The model relies on the sound: ")
    assert sentence.startswith("No effect of the sentence found")  # it is always the same
    assert picture.startswith("No effect of the picture found")

    deaf, reader = trained(("text", "vision"), tmp_path / "deaf")
    table = diagnosed(deaf, reader).set_index("condition")
    for condition in ("sound muted", "sound swapped"):
        assert table.loc[condition, ["lost", "low", "high"]].tolist() == [0, 0, 0]
    assert verdicts(table.reset_index())[0].startswith("No effect of the sound found")


def test_intact_is_what_validation_measures(reader, run_folder, rows):
    torch.manual_seed(0)
    tiny.change_params(run_folder / "params.yaml", {"fusion.dim": 16, "fusion.heads": 2})
    model = SAM2Love.build(load_params(), **reader.dims).eval()
    changed = ChangedInputs(
        reader,
        donors=draw_donors(rows, read_index(run_folder / "index")),
        blank=encode_blank(load_params(), device=CPU),
    )
    scores = score_rows(model, in_batches(rows), reader, device=CPU, conditions=changed)
    means = scores[scores["condition"] == "intact"][["J", "right"]].mean().to_dict()
    engine = start_engine(TRAIN, device=CPU)
    assert means == validate(engine, model, rows, reader, frames=reader.frames)
