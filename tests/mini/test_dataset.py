import ast
import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from mini import describe, story
from mini.dataset import Job, Params, clip_rng, plan, write_clip, write_dataset
from mini.expressions import MEANINGS, NULL_FAMILIES, sentences
from mini.pictures import COLOURS, SHAPES
from mini.rules import Seen
from sam2love.dataset import refavs
from sam2love.dataset.index import SPLITS, Index
from tests.tiny import build_index

PARAMS = Params.model_validate(
    {
        "seed": 5,
        "side": 64,
        "jpeg_quality": 92,
        "noise_db": -60.0,
        "null_share": 0.3,
        "absent_share": 0.15,
        "clips": {
            "train": 10,
            "val": 4,
            "val_unseen": 4,
            "test_s": 6,
            "test_u": 6,
            "test_n": 4,
            "test_n_absent": 2,
            "late": {"train": 4, "val": 1, "val_unseen": 1, "test_s": 2, "test_u": 2},
        },
    }
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_dataset(root, PARAMS, workers=2)
    return root


@pytest.fixture(scope="module")
def index(root: Path) -> Index:
    return build_index(root)


def _clip(job: Job) -> story.Story:
    rng = clip_rng(PARAMS, job)
    return story.sample_story(rng, part=job.part, side=PARAMS.side, late=job.late)


def test_committed_params_are_valid():
    section = yaml.safe_load(Path("mini/params.yaml").read_text())["dataset"]
    assert len(plan(Params.model_validate(section))) > 0


def test_reader_accepts_every_row(root, index):
    rows = list(csv.reader((root / "metadata.csv").open(newline="")))
    assert rows[0] == ["vid", "uid", "split", "fid", "exp"]
    assert len(index.expressions) == len(rows) - 1
    assert set(index.expressions["split"]) == set(SPLITS)
    assert b"\r\n" in (root / "metadata.csv").read_bytes()
    assert list(index.families["uid"]) == [row[1] for row in rows[1:]]
    assert list(index.kinds["uid"]) == [row[1] for row in rows[1:]]
    assert index.expressions["uid"].is_unique


def test_rows_of_a_clip_are_adjacent_and_splits_are_mixed(index):
    keys = index.expressions["key"]
    assert (keys != keys.shift()).sum() == keys.nunique()
    positive = index.expressions[~index.expressions["null"]]
    assert (positive["split"] != positive["split"].shift()).sum() > 8


def test_every_thing_is_annotated_and_visible_at_first_except_one_in_late_clips(root, index):
    late = 0
    for key in index.clips.loc[~index.clips["key"].str.startswith("null"), "key"]:
        fids = refavs.objects(root, key)
        assert fids == list(range(len(fids)))
        assert 2 <= len(fids) <= 4
        shown = [refavs.read_masks(root, key, fid).any(axis=(1, 2)) for fid in fids]
        hidden = [frames for frames in shown if not frames[0]]
        assert len(hidden) <= 1
        for frames in hidden:
            late += 1
            assert frames.argmax() in story.ENTRANCES
            assert frames[-1]
    assert late == sum(job.late for job in plan(PARAMS)) == 10


def test_sentences_of_late_clips_hold_whenever_a_thing_comes(index):
    expressions = [e for job in plan(PARAMS) if job.late for e in _clip(job).expressions]
    assert len(expressions) > 30
    assert not {meaning.family for meaning, _, _ in expressions} & {"place", "relation", "away"}
    late = [clip for job in plan(PARAMS) if job.late for clip in [_clip(job)]]
    hidden = [~clip.masks[0, thing].any() for clip in late for _, _, thing in clip.expressions]
    assert 0.1 < np.mean(hidden) < 0.7  # a late thing is not what is always meant


def test_clips_and_late_clips_are_independent():
    clips = PARAMS.clips.model_copy(
        update={"late": PARAMS.clips.late.model_copy(update={"val": 9})}
    )
    jobs, more = plan(PARAMS), plan(PARAMS.model_copy(update={"clips": clips}))
    assert [job for job in more if not job.late] == [job for job in jobs if not job.late]
    one, other = (_clip(job) for job in jobs if job.split == "val" and job.number == 0)
    assert not np.array_equal(one.pictures, other.pictures)


def test_absent_sentences_hold_for_nothing_in_the_clip_whatever_sounds(index):
    families = index.families.set_index("uid")["family"]
    rows = index.expressions[index.expressions["uid"].map(families) == "absent"]
    assert set(rows["split"]) == {"train", "val", "test_n"}
    assert rows["null"].all()
    vids = rows["key"].str.removeprefix("null_c-")
    frames = index.clips.set_index("key")["frames_key"]
    for vid, sentence in zip(vids, rows["exp"], strict=True):
        shown = index.expressions[index.expressions["key"] == vid]
        assert sentence not in set(shown["exp"])
        assert frames[f"null_c-{vid}"] == frames[vid]
    for job in plan(PARAMS)[:10]:
        clip = _clip(job)
        names = {
            name for thing in clip.scene.things for name in (thing.kind.shape, thing.kind.colour)
        }
        for sentence in story.sample_absent_sentences(np.random.default_rng(0), clip):
            assert set(sentence.lower().strip(".").split()) & (set(COLOURS) | set(SHAPES))
            assert not set(sentence.lower().strip(".").split()) & names


def test_absent_rows_sound_like_their_clip(root, index):
    families = index.families.set_index("uid")["family"]
    keys = {uid.rsplit("_", 2)[0] for uid in families.index[families == "absent"]}
    for key in keys:
        ours, theirs = (refavs.read_audio(root, k)[0] for k in (key, key.removeprefix("null_c-")))
        np.testing.assert_array_equal(ours, theirs)


def test_masks_of_a_clip_never_overlap(root, index):
    for key in index.clips["key"][:8]:
        masks = [refavs.read_masks(root, key, fid) for fid in refavs.objects(root, key)]
        assert np.sum(masks, axis=0).max(initial=0) <= 1


def test_masks_fit_the_pictures(root, index):
    """The pixels under the mask of 'the red object' are red."""
    palette = np.array(list(COLOURS.values()))
    families = index.families.set_index("uid")["family"]
    rows = index.expressions[index.expressions["uid"].map(families) == "colour"]
    assert len(rows) > 5
    for row in rows.itertuples():
        frames, masks = refavs.read_frames(root, row.key), refavs.read_masks(root, row.key, row.fid)
        for frame, mask in zip(frames, masks, strict=True):
            if mask.mean() > 0.01:
                tint = np.median(frame[mask].astype(float), axis=0)
                assert list(COLOURS)[np.abs(palette - tint).sum(axis=1).argmin()] in row.exp


def test_rows_name_the_target_s_mask_and_fids_are_uninformative(tmp_path):
    first = []
    for job in plan(PARAMS)[:10]:
        clip = _clip(job)
        rows = write_clip(tmp_path, PARAMS, job)
        for row, (_, sentence, thing) in zip(rows, clip.expressions, strict=False):
            assert row.exp == sentence
            masks = refavs.read_masks(tmp_path, row.vid, row.fid)
            np.testing.assert_array_equal(masks, clip.masks[:, thing])
            first += [row.fid] if thing == 0 else []
    assert len(set(first)) >= 3


@pytest.mark.parametrize("workers", [1, 3])
def test_same_seed_same_bytes_with_any_number_of_workers(root, tmp_path, workers):
    write_dataset(tmp_path / "again", PARAMS, workers=workers)
    assert _digests(tmp_path / "again") == _digests(root)


def test_another_seed_gives_other_pictures(root, tmp_path):
    write_dataset(tmp_path / "other", PARAMS.model_copy(update={"seed": 6}))
    assert not set(_digests(root).values()) & {
        digest for path, digest in _digests(tmp_path / "other").items() if path.endswith(".jpg")
    }


def test_stage_depends_on_exactly_the_modules_it_uses():
    stage = yaml.safe_load(Path("mini/dvc.yaml").read_text())["stages"]["dataset"]
    assert set(stage["deps"]) == _modules("mini/dataset.py")


def test_out_is_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stale").touch()
    clips = PARAMS.clips.model_copy(update={"train": 1, "val": 1, "test_u": 1})
    write_dataset(tmp_path / "data", PARAMS.model_copy(update={"clips": clips}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert not (tmp_path / "data" / "stale").exists()


def test_kinds_of_train_of_val_s_unseen_part_and_of_test_u_are_disjoint():
    shown: dict[tuple[str, str], set] = {}
    for job in plan(PARAMS):
        part = "unseen" if job.part == "val" else "seen"
        kinds = {(thing.kind.shape, thing.kind.colour) for thing in _clip(job).scene.things}
        shown.setdefault((job.split, part), set()).update(kinds)
    train, unseen, test_u = (
        shown[name] for name in (("train", "seen"), ("val", "unseen"), ("test_u", "seen"))
    )
    assert not train & unseen
    assert not train & test_u
    assert not unseen & test_u
    for split in ("val", "test_s"):
        assert not shown[split, "seen"] & (unseen | test_u)


def test_held_out_parts_are_as_mixed_as_each_other():
    """Settings chosen on one then suit the other: as many kinds, some closely related."""
    for part in ("val", "test_u"):
        kinds = story.HELD_OUT[part]
        kin = [(a, b) for a in kinds for b in kinds if a < b and (a[0] == b[0]) != (a[1] == b[1])]
        assert len(kinds) == 5
        assert len(kin) >= 3


def test_kinds_csv_marks_rows_with_unseen_kinds(index):
    kinds = index.kinds.set_index("uid")["kinds"]
    rows = index.expressions.assign(kinds=index.expressions["uid"].map(kinds))
    assert set(rows.loc[rows["split"].isin(["train", "test_s", "test_n"]), "kinds"]) == {"seen"}
    assert set(rows.loc[rows["split"] == "test_u", "kinds"]) == {"unseen"}
    val = rows[rows["split"] == "val"]
    assert set(val["kinds"]) == set(val.loc[val["null"], "kinds"]) == {"seen", "unseen"}


def test_unseen_clips_of_val_leave_all_other_clips_as_they_were():
    more = PARAMS.clips.model_copy(update={"val_unseen": 9})
    jobs, longer = plan(PARAMS), plan(PARAMS.model_copy(update={"clips": more}))
    assert [job for job in longer if job.part != "val"] == [j for j in jobs if j.part != "val"]


def test_each_shape_and_colour_is_seen_with_others():
    seen = {(kind.shape, kind.colour) for kind in story.kinds_of("seen")}
    assert {shape for shape, _ in seen} == set(SHAPES)
    assert {colour for _, colour in seen} == set(COLOURS)
    assert all(len([1 for shape, _ in seen if shape == name]) == 4 for name in SHAPES)


def test_null_rows_show_the_frames_of_their_clip(root, index):
    null = index.expressions[index.expressions["null"]]
    frames_key = index.clips.set_index("key")["frames_digest"]
    splits = index.clips.set_index("key")["split"]
    for key in null["key"].unique():
        base = key.split("-", 1)[1]
        assert frames_key[key] == frames_key[base]
        assert splits[base] == ("test_s" if splits[key] == "test_n" else splits[key])
    assert set(null["fid"]) == {0}
    assert set(null["split"]) == {"train", "val", "test_n"}
    kinds = null["uid"].str.slice(0, 6)
    assert set(kinds) == {"null_m", "null_c"}


def test_null_masks_are_black_or_missing(root, index):
    null = index.expressions[index.expressions["null"]]
    masks = [refavs.read_masks(root, key, 0) for key in null["key"].unique()]
    assert any(mask is None for mask in masks)
    assert any(mask is not None for mask in masks)
    assert not any(mask.any() for mask in masks if mask is not None)


def test_null_sentences_are_true_elsewhere():
    asked = {
        sentence
        for number in range(50)
        for sentence in story.sample_null_sentences(np.random.default_rng(number))
    }
    families = {m.family for m in MEANINGS for words in m.wordings if words in asked}
    assert asked <= set(sentences())
    assert families == set(NULL_FAMILIES)


def test_fraction_of_null_rows_is_about_null_share():
    clips = PARAMS.clips.model_copy(update={"train": 900})
    params = PARAMS.model_copy(update={"null_share": 0.15, "clips": clips})
    twins = [job.twin for job in plan(params) if job.split == "train"]
    absent = twins.count("absent") * 4
    null = (len(twins) - twins.count(None)) * 4 - absent
    assert null / (null + 5.5 * 900) == pytest.approx(0.15, abs=0.01)
    assert absent / (absent + 5.5 * 900) == pytest.approx(PARAMS.absent_share, abs=0.01)


def test_more_null_clips_than_clips_are_an_error():
    clips = PARAMS.clips.model_copy(update={"test_n": 5})
    with pytest.raises(ValueError, match=r"1\.17 null clips per clip of test_s.*clips\.test_n"):
        plan(PARAMS.model_copy(update={"clips": clips}))


def test_sounds_are_audible_and_never_clipped_and_muted_clips_are_silent(root, index):
    levels = {}
    for key in index.clips["key"]:
        samples, sample_rate_hz = refavs.read_audio(root, key)
        assert sample_rate_hz == 16_000
        assert len(samples) == 160_000
        assert np.abs(samples).max() < 0.96
        levels[key] = float(np.sqrt(np.mean(samples.reshape(-1, 1600) ** 2, axis=1)).max())
    assert all(level < 0.002 for key, level in levels.items() if key.startswith("null_m"))
    families = index.families.set_index("uid")["family"]
    absent = {uid.rsplit("_", 2)[0] for uid in families.index[families == "absent"]}
    changed = {key for key in levels if key.startswith("null_c")} - absent
    assert all(levels[key] > 0.02 for key in changed)
    audible = [level > 0.02 for key, level in levels.items() if not key.startswith("null")]
    assert sum(audible) == sum(any(_clip(job).heard) for job in plan(PARAMS))


def test_foreign_kinds_share_neither_shape_nor_colour():
    for number in range(30):
        rng = np.random.default_rng(number)
        kinds = story.sample_kinds(rng, 3, "seen")
        for foreign in story.foreign_kinds(rng, kinds, 2):
            assert foreign.shape not in {kind.shape for kind in kinds}
            assert foreign.colour not in {kind.colour for kind in kinds}
            assert story.part_of(foreign.shape, foreign.colour) == "seen"


def test_sounds_differ_clearly_in_level_length_and_onset():
    for number in range(50):
        heard = story.sample_sounds(np.random.default_rng(number), 4, 3)
        sounds = [sound for sound in heard if sound is not None]
        assert len(sounds) == 3
        levels, lengths, onsets = np.sort(
            [[s.level_db for s in sounds], [s.seconds for s in sounds],
             [s.onset_seconds for s in sounds]]
        )  # fmt: skip
        assert np.diff(levels).min() >= 6
        assert np.diff(lengths)[-1] >= 2
        assert np.diff(onsets).min() >= 1.5
        assert levels[0] >= -28
        assert max(s.onset_seconds + s.seconds for s in sounds) <= 10


def test_trivial_baselines_score_low():
    """The largest and the central object are the target about as often as any other."""
    few = PARAMS.clips.model_copy(update={"train": 120, "test_n": 1})
    params = PARAMS.model_copy(update={"clips": few})
    clips, rows = describe.measure(params, workers=2)
    assert (clips["things"] >= 3).mean() >= 0.5
    assert rows["needs_sound"].mean() >= 0.5
    assert 0.08 <= rows["temporal"].mean() <= 0.17
    for name in ("largest", "central"):
        assert rows[name].mean() < rows["chance"].mean() + 0.06
    for name in ("every_object", "largest", "central", "random"):
        assert rows[f"J_{name}"].mean() < 0.45


def test_looks_are_independent_of_sounds():
    """Over many clips, sounding things are as large and as central as silent ones."""
    jobs = [Job("train", number, "seen") for number in range(250)]
    areas, reach, sounds = [], [], []
    for job in jobs:
        clip = _clip(job)
        seen = Seen.of(clip.scene, clip.masks)
        areas += list(seen.areas)
        reach += list(np.linalg.norm(seen.paths[:, 0] - 0.5, axis=1))
        sounds += [sound is not None for sound in clip.heard]
    for values in (areas, reach):
        assert abs(np.corrcoef(values, sounds)[0, 1]) < 0.1


def _digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def _modules(path: str) -> set[str]:
    """Return a module and all modules of mini/ that it imports, directly or not."""
    found = {path}
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mini":
            names = [alias.name for alias in node.names] if node.module == "mini" else [""]
            for name in names:
                found |= _modules(f"{node.module}.{name}".strip(".").replace(".", "/") + ".py")
    return found
