"""The benchmarks run at toy size and return figures in the documented form."""

import math

import pytest

from benchmarks import (
    extraction,
    fusion,
    loader,
    machine,
    memory,
    precision,
    propagation,
    stages,
    store,
    timing,
    training,
)
from sam2love import device
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from tests import tiny


@pytest.fixture
def toy_params():
    params = load_params(tiny.DEFAULT_PARAMS)
    size = params.fusion.model_copy(update={"dim": 8, "layers": 2, "heads": 2})
    return params.model_copy(update={"fusion": size})


@pytest.fixture
def toy_fusion(toy_params):
    return toy_params.fusion


def toy_extraction():
    return extraction.measure(clips=2, size=(64, 48), model="vit_tiny_patch16_224", rounds=1)


def toy_loader(train):
    small = {
        "audio": {"audio": ((2, 3), "float32")},
        "vision": {"patches": ((10, 4, 3), "float16"), "cls": ((10, 3), "float16")},
        "text": {"tokens": ((25, 3), "float16"), "length": ((), "int32")},
        "sam2": {name: ((2, 2, 2), "float16") for name in loader.PAPER["sam2"]},
        "labels": loader.PAPER["labels"],
    }
    train = train.model_copy(update={"batch_size": 2})
    return loader.measure(train, stores=small, rows=4, batches=2, rounds=2)


def test_each_figure_is_a_finite_positive_ratio(toy_params, toy_fusion, monkeypatch):
    monkeypatch.chdir(tiny.REPOSITORY)
    measured = [
        ("store", store.measure(clips=3, item=(2, 4, 8), reads=5, rounds=2)),
        ("loader", toy_loader(toy_params.train)),
        ("extraction", toy_extraction()),
        ("memory", memory.measure(few=3, many=6, rounds=1)),
        ("propagation", propagation.measure(prompts=2, frames=3, rounds=1)),
        ("training", training.measure(toy_params, rows=2, rounds=2)),
        ("fusion", fusion.measure(toy_fusion, rows=2, rounds=2)),
        ("fusion", {"joint": fusion.measure_joint(toy_fusion, patches=4, width=3, rounds=1)}),
    ]
    leaves = {f"{part}.{name}": leaf for part, found in measured for name, leaf in found.items()}
    assert set(leaves) == {
        "store.read_over_memmap",
        "store.cold_read_over_memmap",
        "store.loader_read_over_memmap",
        "store.bytes_over_raw",
        "store.rounded_bytes_over_raw",
        "loader.batch_over_copy",
        "loader.share_waiting_at_paper_size",
        "extraction.over_bare_forward",
        "memory.rss_4000_over_400",
        "propagation.speedup_over_official_predictor",
        "propagation.speedup_over_official_multi_object",
        "fusion.speedup_over_plain_encoder",
        "fusion.joint",
        "training.cached_speedup_over_end_to_end",
        "training.cached_speedup_of_grounding",
        "training.share_waiting",
        "training.share_of_attainable_flops",
    }
    for leaf in leaves.values():
        least, most = leaf["spread"]
        assert 0 < least <= leaf["ratio"] <= most < math.inf
    for name in ("predictor", "multi_object"):
        assert leaves[f"propagation.speedup_over_official_{name}"]["mask_iou"] > 0.9


def test_speedup_is_throughput_over_throughput():
    leaf = timing.speedup({"ours": [1.0, 2.0, 4.0], "plain": [2.0, 6.0, 4.0]}, "ours", "plain")
    assert (leaf["ratio"], leaf["spread"], leaf["rounds"]) == (2.0, [1.0, 3.0], 3)


def test_ways_alternate():
    turns = []
    ways = {name: lambda name=name: turns.append(name) for name in "ab"}
    seconds = timing.side_by_side(ways, rounds=2)
    assert turns == list("ababab")  # the first round warms up
    assert [len(kept) for kept in seconds.values()] == [2, 2]


def test_the_flops_bound_of_the_papers_fusion(toy_fusion):
    paper = toy_fusion.model_copy(update={"dim": 1024, "layers": 6, "heads": 16})
    assert fusion.flops_bound(paper, tokens=0) == pytest.approx(1.16, abs=0.005)


def test_a_stage_lasts_until_the_next_starts():
    clock = iter([0, 2, 5, 15])
    lines = ["Running stage 'mini/dvc.yaml:dataset':\n", "> python\n", "Running stage 'index':\n"]
    seconds = stages.seconds_by_stage(lines, now=lambda: next(clock))
    assert seconds == {"dvc": 2, "mini/dvc.yaml:dataset": 3, "index": 10}
    assert stages.table(seconds)[-2:] == ["| index | 10 | 67% |", "| all | 15 | 100% |"]


def test_machine_names_commit_and_processor():
    assert len(machine.commit().removesuffix("-dirty")) == 40
    assert machine.processor()


@pytest.mark.slow
@pytest.mark.parametrize("keep_bits", [None, 3])
def test_other_precisions_are_compared_with_the_run(
    run_folder, refavs_root, monkeypatch, capsys, keep_bits
):
    for _, run in tiny.stage_runs(refavs_root):
        run()
    monkeypatch.setattr(device, "HALF_PRECISION", device.HALF_PRECISION)  # restored afterwards
    precision.main(run_folder / "other", keep_bits)
    agreement = float(capsys.readouterr().out.rpartition("masks: ")[2])
    assert 0.5 < agreement < 1
    masks = FeatureStore.open(run_folder / "other/predictions/masks.zarr")
    assert masks.provenance["precision"] == ("bfloat16" if keep_bits is None else "float32")
    vision = FeatureStore.open(run_folder / "other/features/vision.zarr")
    assert {spec.keep_bits for spec in vision.specs} == {keep_bits}
