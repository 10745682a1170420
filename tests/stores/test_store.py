"""Stores: round trips, the same bytes after any interruption, and all damage reported."""

import contextlib
import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.stores import shards
from sam2love.stores.inspection import find_stores, verify_stores
from sam2love.stores.store import ArraySpec, FeatureStore, fill_store

SPECS = [
    ArraySpec("patches", (2, 3, 4), "float16", 4, "made up"),
    ArraySpec("length", (), "int32", 4, "a number"),
]
IDS = [f"clip ü/{i}" for i in range(10)]
PROVENANCE = {"stage": "vision", "weights": "abc"}


def items(ids: list[str]) -> dict[str, np.ndarray]:
    numbers = [IDS.index(name) for name in ids]
    patches = [np.random.default_rng(i).normal(size=(2, 3, 4)) for i in numbers]
    return {"patches": np.stack(patches), "length": np.array(numbers)}


def fill(out: Path, encode=items, **changes) -> None:
    arguments = {
        "specs": SPECS,
        "ids": IDS,
        "provenance": PROVENANCE,
        "encode": encode,
        "batch_size": 3,
        "description": "filling",
    }
    fill_store(out, **(arguments | changes))


def contents(path: Path) -> dict[str, bytes]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A finished store, shared by tests: don't change it."""
    out = tmp_path_factory.mktemp("store") / "vision.zarr"
    fill(out)
    return out


@pytest.fixture
def own(tmp_path) -> Path:
    """A finished store for a test that damages it."""
    fill(tmp_path / "vision.zarr")
    return tmp_path / "vision.zarr"


# ---- round trips --------------------------------------------------------------------------------


def test_round_trip(filled):
    store = FeatureStore.open(filled, PROVENANCE)
    assert store.ids == IDS
    assert len(store) == 10
    assert store.has(IDS[3])
    assert not store.has("other")
    for name in reversed(IDS):
        expected = items([name])
        patches = store.read("patches", name)
        assert patches.dtype == np.float16
        np.testing.assert_array_equal(patches, expected["patches"][0].astype(np.float16))
        assert store.read("length", name) == expected["length"][0]
        patches[:] = 0  # a copy: the caller may write into it
    np.testing.assert_array_equal(store.read_all("length"), np.arange(10))
    assert store.verify() == []


@settings(max_examples=25)
@given(
    count=st.integers(0, 9),
    shape=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    dtype=st.sampled_from(["float16", "float32", "int32", "uint8"]),
    per_shard=st.integers(1, 5),
    batch_size=st.integers(1, 7),
)
def test_the_fast_path_reads_what_zarr_reads(
    tmp_path_factory, count, shape, dtype, per_shard, batch_size
):
    out = tmp_path_factory.mktemp("store") / "any.zarr"
    ids = [str(i) for i in range(count)]
    values = np.random.default_rng(count).integers(0, 100, (count, *shape)).astype(dtype)
    fill(
        out,
        lambda batch: {"values": values[[int(i) for i in batch]]},
        specs=[ArraySpec("values", shape, dtype, per_shard, "any")],
        ids=ids,
        batch_size=batch_size,
    )
    store = FeatureStore.open(out)
    reference = zarr.open_group(out, mode="r")["values"]
    assert reference.shape == values.shape
    assert store._array("values").is_plain
    for i, name in enumerate(ids):
        np.testing.assert_array_equal(store.read("values", name), values[i])
        np.testing.assert_array_equal(reference[i], values[i])
    np.testing.assert_array_equal(store.read_all("values"), values)


def test_files_are_shards_and_all_zero_items_are_written(tmp_path):
    out = tmp_path / "zero.zarr"
    fill(out, lambda ids: {name: array * 0 for name, array in items(ids).items()})
    shards = sorted((out / "patches" / "c").rglob("*"))
    assert sum(path.is_file() for path in shards) == 3  # 10 items, 4 a shard
    assert not FeatureStore.open(out).read_all("patches").any()


def test_the_first_entries_of_an_item(filled):
    store = FeatureStore.open(filled)
    first = store.read("patches", IDS[6], first=1)
    np.testing.assert_array_equal(first, store.read("patches", IDS[6])[:1])
    first[:] = 0
    assert store.read("patches", IDS[6], first=9).shape == (2, 3, 4)


def test_batches_are_encoded_in_order_whichever_is_loaded_first(filled, tmp_path):
    def load(ids: list[str]) -> list[str]:
        time.sleep(0.02 * (len(IDS) - IDS.index(ids[0])) / len(IDS))
        return ids

    fill(tmp_path / "a.zarr", load=load)
    assert contents(tmp_path / "a.zarr") == contents(filled)


def test_rounded_and_compressed(tmp_path):
    specs = [ArraySpec("values", (10, 8, 96), "float16", 4, "made up", keep_bits=5)]
    values = np.random.default_rng(0).normal(size=(10, 10, 8, 96)).astype(np.float16)

    def encode(ids: list[str]) -> dict[str, np.ndarray]:
        return {"values": values[[IDS.index(name) for name in ids]]}

    fill(tmp_path / "a.zarr", encode, specs=specs)
    store = FeatureStore.open(tmp_path / "a.zarr")
    assert store.specs == specs
    assert store.stored_bytes() < 0.8 * values.nbytes
    found = store.read("values", IDS[7])
    np.testing.assert_allclose(found, values[7], rtol=2**-6)
    assert (found != values[7]).any()
    np.testing.assert_array_equal(store.read("values", IDS[7], first=2), found[:2])
    assert store.verify() == []
    damaged = tmp_path / "a.zarr/values/c/1/0/0/0"
    data = bytearray(damaged.read_bytes())
    data[5] ^= 1
    damaged.write_bytes(data)
    assert len(FeatureStore.open(tmp_path / "a.zarr").verify()) == 1


def test_inspecting_a_folder_of_stores_names_them(tmp_path):
    for name in ("text.zarr", "vision.zarr"):
        fill(tmp_path / name)
    done = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output == (
        f"error: {tmp_path}: a folder of stores, expected one of them: "
        f"{tmp_path}/text.zarr, {tmp_path}/vision.zarr\n"
    )


class Lengths:
    def __init__(self, store: FeatureStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.store.read("length", self.store.ids[i])


def test_workers_of_a_dataloader_read_it(filled):
    from torch.utils.data import DataLoader  # not at the top, so that the killed runs start quickly

    store = FeatureStore.open(filled)
    store.read("length", IDS[0])  # the index of its shard is read before the workers start
    loader = DataLoader(Lengths(store), num_workers=2, multiprocessing_context="fork")
    assert [int(batch) for batch in loader] == list(range(10))


def test_a_store_can_be_pickled(filled):
    store = FeatureStore.open(filled)
    store.read("length", IDS[0])
    again = pickle.loads(pickle.dumps(store))
    assert again.read("length", IDS[4]) == 4


# ---- more files than a process may have open ----------------------------------------------------


@contextlib.contextmanager
def open_files(at_most: int) -> Iterator[None]:
    """Limit this process to `at_most` more open files than it has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + at_most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module", params=[None, 7])
def many_files(tmp_path_factory, request) -> Path:
    """A store of 120 files, plain or compressed."""
    out = tmp_path_factory.mktemp("store") / "many.zarr"
    fill(
        out,
        lambda ids: {name: np.array(ids, float) for name in "ab"},
        specs=[ArraySpec(name, (), "float16", 2, "a number", request.param) for name in "ab"],
        ids=[str(i) for i in range(120)],
        batch_size=60,
    )
    return out


def test_a_store_of_more_files_than_may_be_open(many_files):
    FeatureStore.open(many_files).verify()  # so that Zarr has started its threads
    with open_files(24):
        store = FeatureStore.open(many_files)
        assert store.verify() == []
        for name in "ab":
            assert [int(store.read(name, item)) for item in store.ids] == list(range(120))
            assert store.read_all(name).tolist() == list(range(120))


def test_no_file_stays_open(many_files):
    store = FeatureStore.open(many_files)
    store.verify()
    before = len(os.listdir("/dev/fd"))
    for item in store.ids:
        store.read("a", item)
    assert len(os.listdir("/dev/fd")) == before


class Numbers(Lengths):
    def __getitem__(self, i: int) -> np.ndarray:
        return self.store.read("a", self.store.ids[i])


def test_workers_read_more_files_than_may_be_open(many_files):
    from torch.utils.data import DataLoader

    store = FeatureStore.open(many_files)
    if not store._array("a").is_plain:
        pytest.skip("Zarr's own reader has threads, which a fork doesn't copy")
    for item in store.ids[::5]:
        store.read("a", item)
    loader = DataLoader(Numbers(store), num_workers=2, multiprocessing_context="fork")
    with open_files(40):
        assert [int(batch) for batch in loader] == list(range(120))


SYSTEM_ERRORS = (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ESTALE)


@pytest.mark.parametrize("number", SYSTEM_ERRORS)
def test_a_system_error_is_not_damage(many_files, monkeypatch, number):
    """An error when an intact file is opened is reported as such, with the file's name."""

    def refuse(path: Path, *_: object, **__: object):
        raise OSError(number, os.strerror(number), str(path))

    def refuse_shards(path: Path, *arguments: object, **options: object):
        return (refuse if "c" in path.parts else opened)(path, *arguments, **options)

    opened = Path.open
    store = FeatureStore.open(many_files)
    monkeypatch.setattr("sam2love.stores.shards.FileIO", refuse)
    monkeypatch.setattr(Path, "open", refuse_shards)
    for read in (lambda: store.read("a", "7"), lambda: store.read_all("a"), store.verify):
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            read()
        assert "many.zarr/a/c/" in str(error.value)
        assert "run the stage" not in str(error.value)
    result = CliRunner().invoke(app, ["check", str(many_files)])
    assert result.exit_code == 1
    assert os.strerror(number) in result.output
    assert "damaged" not in result.output


def test_a_disk_that_fails_while_reading_is_not_damage(filled, monkeypatch):
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = FeatureStore.open(filled)
    store.read("patches", IDS[0])
    monkeypatch.setattr(
        "sam2love.stores.shards.FileIO", type("Failing", (shards.FileIO,), {"readinto": fail})
    )
    with pytest.raises(OSError, match=r"patches/c/0/0/0/0: can't be read \(Input/output error\)"):
        store.read("patches", IDS[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("place", ["zarr.json", "patches/zarr.json", "patches/c", "patches/c/1"])
def test_a_store_without_read_permission(own, place):
    mode = (own / place).stat().st_mode
    (own / place).chmod(0)
    try:
        with pytest.raises(PermissionError, match="Permission denied"):
            FeatureStore.open(own)
    finally:
        (own / place).chmod(mode)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_shard_that_goes_missing_is_damage(own, damage):
    store = FeatureStore.open(own)
    damage(shard(own, 1))
    with pytest.raises(ValueError, match=r"patches/c/1/0/0/0: .*; run the stage 'vision' again"):
        store.read("patches", IDS[5])


# ---- interrupted work is resumed ----------------------------------------------------------------


def test_the_same_work_gives_the_same_bytes(filled, tmp_path):
    fill(tmp_path / "again.zarr")
    assert contents(tmp_path / "again.zarr") == contents(filled)


def test_resumes_after_a_crash_with_the_same_bytes(filled, tmp_path):
    out = tmp_path / "vision.zarr"
    seen: list[str] = []

    def crash(ids: list[str]) -> dict[str, np.ndarray]:
        if IDS[7] in ids:
            raise MemoryError
        seen.extend(ids)
        return items(ids)

    with pytest.raises(MemoryError):
        fill(out, crash)
    assert not out.exists()
    assert seen[:4] == IDS[:4]
    seen.clear()

    def resume(ids: list[str]) -> dict[str, np.ndarray]:
        seen.extend(ids)
        return items(ids)

    fill(out, resume)
    assert seen == IDS[4:]
    assert contents(out) == contents(filled)
    assert not list((tmp_path / ".staging").glob("*.zarr"))  # nothing is left behind


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": PROVENANCE | {"weights": "other"}},
        {"ids": IDS[::-1]},
        {"batch_size": 2},
    ],
)
def test_other_work_does_not_resume_it(tmp_path, change):
    out = tmp_path / "vision.zarr"

    def crash(ids: list[str]) -> dict[str, np.ndarray]:
        if IDS[7] in ids:
            raise MemoryError
        return {name: array + 1 for name, array in items(ids).items()}

    with pytest.raises(MemoryError):
        fill(out, crash)
    fill(out, **change)
    store = FeatureStore.open(out)
    assert [int(store.read("length", name)) for name in IDS] == list(range(10))


def test_replaces_an_older_store_only_when_complete(own):
    before = contents(own)

    def crash(ids: list[str]) -> dict[str, np.ndarray]:
        raise MemoryError

    with pytest.raises(MemoryError):
        fill(own, crash, provenance={"weights": "new"})
    assert contents(own) == before
    fill(own, provenance={"weights": "new"})
    assert FeatureStore.open(own).provenance == {"weights": "new"}


SLOW_FILL = """
import sys, time
from pathlib import Path
from tests.stores import test_store as t

def slowly(ids):
    time.sleep(0.03)
    return t.items(ids)

t.fill(Path(sys.argv[1]), slowly)
"""


def test_killed_at_any_moment_it_ends_with_the_same_bytes(filled, tmp_path):
    out = tmp_path / "vision.zarr"
    script = tmp_path / "slow.py"
    script.write_text(SLOW_FILL)
    command = [sys.executable, str(script), str(out)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / ".staging").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0.02, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists() or FeatureStore.open(out).verify() == []
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert contents(out) == contents(filled)


def test_waits_for_another_process(filled, tmp_path, capfd):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_FILL.replace("0.03", "0.6"))
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(script), str(tmp_path / "vision.zarr")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".staging/vision.zarr/*/finished")):
        assert process.poll() is None
        time.sleep(0.01)
    fill(tmp_path / "vision.zarr")
    assert process.wait() == 0
    assert "locked by another process; waiting" in capfd.readouterr().err
    assert contents(tmp_path / "vision.zarr") == contents(filled)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_ranks_fill_every_nth_shard_and_the_last_publishes(
    filled, tmp_path, monkeypatch, capsys, order
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    encoded = []

    def encode(ids: list[str]) -> dict[str, np.ndarray]:
        encoded.append(ids[0])
        return items(ids)

    for place, rank in enumerate(order):
        monkeypatch.setenv("RANK", str(rank))
        fill(tmp_path / "vision.zarr", encode, batch_size=4)
        assert (tmp_path / "vision.zarr").exists() == (place == 2)
    assert encoded == [IDS[4 * rank] for rank in order]
    assert capsys.readouterr().out.count("other ranks have") == 2
    assert contents(tmp_path / "vision.zarr") == contents(filled)
    fill(tmp_path / "vision.zarr", encode, batch_size=4)  # a rank that starts too late
    assert len(encoded) == 3


def test_the_next_run_fills_what_a_dead_rank_left(filled, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    fill(tmp_path / "vision.zarr")
    monkeypatch.undo()
    seen: list[str] = []

    def resume(ids: list[str]) -> dict[str, np.ndarray]:
        seen.extend(ids)
        return items(ids)

    fill(tmp_path / "vision.zarr", resume)
    assert seen == IDS[:4] + IDS[8:]
    assert contents(tmp_path / "vision.zarr") == contents(filled)


def test_a_rank_without_a_shard_returns(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    fill(tmp_path / "vision.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("0", "0"), ("-1", "2"), ("0", "two")])
def test_invalid_ranks(tmp_path, monkeypatch, rank, world):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(ValueError, match=f"RANK is '{rank}' and WORLD_SIZE '{world}'"):
        fill(tmp_path / "vision.zarr")


def test_killed_while_it_was_published_it_starts_over(filled, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", lambda path, **options: None)  # as if killed before
    fill(tmp_path / "vision.zarr")
    monkeypatch.undo()
    fill(tmp_path / "vision.zarr")
    assert contents(tmp_path / "vision.zarr") == contents(filled)


# ---- items that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda ids: {"length": np.zeros(len(ids))}, r"\['length'\], expected \['length', 'patc"),
        (
            lambda ids: items(ids) | {"patches": np.zeros((len(ids), 2, 3, 5))},
            r"patches of shape \(3, 2, 3, 5\) .* expected \(3, 2, 3, 4\)",
        ),
        (lambda ids: items(ids[:1]), r"of shape \(1, 2, 3, 4\)"),
        (
            lambda ids: items(ids) | {"patches": np.full((len(ids), 2, 3, 4), np.nan)},
            "patches of item 'clip ü/0' is not finite as float16",
        ),
        (
            lambda ids: items(ids) | {"patches": np.full((len(ids), 2, 3, 4), 7e4)},
            "is not finite as float16",
        ),
    ],
)
def test_refuses_arrays_that_were_not_declared(tmp_path, encode, message):
    with pytest.raises(ValueError, match=message):
        fill(tmp_path / "bad.zarr", encode)
    assert not (tmp_path / "bad.zarr").exists()


@pytest.mark.parametrize("keep_bits", range(1, 11))
def test_items_that_rounding_makes_infinite_are_refused(tmp_path, keep_bits):
    """The largest float16 of so many bits is stored; one that rounds to more is not."""
    spec = ArraySpec("values", (2,), "float16", 4, "near the largest half", keep_bits)
    largest = 2.0**16 - 2.0 ** (15 - keep_bits)
    with np.errstate(over="ignore"):
        tie = np.float16(largest + 2.0 ** (14 - keep_bits))
    above = np.nextafter(tie, np.float16(0))

    def store_pair(value: float) -> None:
        pair = {"values": np.array([[value, -value]])}
        fill(tmp_path / "x.zarr", lambda _: pair, specs=[spec], ids=["a"], provenance={})

    for value in (largest, above):  # above rounds down
        store_pair(value)
        read = FeatureStore.open(tmp_path / "x.zarr").read("values", "a")
        assert read.tolist() == [largest, -largest]
    if keep_bits < 10:  # with 10 bits nothing is rounded
        for value in (above + 32, 65504):
            with pytest.raises(
                ValueError, match=f"'a' is not finite as float16 with {keep_bits} b"
            ):
                store_pair(value)


def test_refuses_a_repeated_id(tmp_path):
    with pytest.raises(ValueError, match=r"bad\.zarr: the id 'a' is repeated"):
        fill(tmp_path / "bad.zarr", ids=["a", "b", "a"])


# ---- stores that are refused --------------------------------------------------------------------


def shard(path: Path, number: int) -> Path:
    return path / "patches" / "c" / str(number) / "0" / "0" / "0"


def test_missing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"gone\.zarr: no such store; run the stage that writes it$"
    ):
        FeatureStore.open(tmp_path / "gone.zarr")


def test_not_a_store(own):
    (own / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match="not readable as a store"):
        FeatureStore.open(own)


def test_other_provenance(filled):
    message = "its provenance has weights 'abc', expected 'xyz'; run the stage 'vision' again$"
    with pytest.raises(ValueError, match=message):
        FeatureStore.open(filled, PROVENANCE | {"weights": "xyz"})


def test_another_format_version(own):
    zarr.open_group(own).attrs["format_version"] = 99
    with pytest.raises(ValueError, match="format version 99, expected 1"):
        FeatureStore.open(own)


def test_incomplete(own):
    shard(own, 1).unlink()
    with pytest.raises(ValueError, match="incomplete; run the stage 'vision' again"):
        FeatureStore.open(own)


def test_not_marked_complete(own):
    zarr.open_group(own).attrs["complete"] = False
    with pytest.raises(ValueError, match="incomplete"):
        FeatureStore.open(own)


def test_unknown_item_and_array(filled):
    store = FeatureStore.open(filled)
    with pytest.raises(ValueError, match="no item 'other'; run the stage 'vision' again"):
        store.read("patches", "other")
    with pytest.raises(ValueError, match="no array 'cls', found: length, patches; run the stage"):
        store.read("cls", IDS[0])


def test_a_flipped_bit_is_found(own):
    data = bytearray(shard(own, 1).read_bytes())
    data[5] ^= 1
    shard(own, 1).write_bytes(data)
    store = FeatureStore.open(own)
    (fault,) = store.verify()
    assert str(own / "patches") in fault
    with pytest.raises(ValueError, match=r"damaged .* run the stage 'vision' again"):
        store.read_all("patches")


def test_check_and_inspect_report_every_fault(filled, own, tmp_path):
    runner = CliRunner()
    result = runner.invoke(app, ["inspect", str(filled)])
    assert result.exit_code == 0, result.output
    for line in ("patches: (2, 3, 4) float16 per item, made up; 3 shards of 4", "weights: abc"):
        assert line in result.output
    assert "checksums of 10 items in 2 arrays verified" in result.output
    assert find_stores(tmp_path) == [own]
    assert verify_stores([filled, own])[1]
    for number in (0, 2):
        data = bytearray(shard(own, number).read_bytes())
        data[5] ^= 1
        shard(own, number).write_bytes(data)
    for arguments in (["inspect", str(own)], ["check", str(own)], ["check", str(tmp_path)]):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 1
        assert result.output.count("fatal: ") == 2
        assert "items 8 to 9 damaged" in result.output
    shard(own, 1).unlink()
    result = runner.invoke(app, ["check", str(tmp_path)])
    assert (result.exit_code, result.output.count("incomplete")) == (1, 1)


@pytest.mark.parametrize("size", [0, 10, 100])
def test_a_truncated_shard_is_reported(own, size):
    shard(own, 1).write_bytes(shard(own, 1).read_bytes()[:size])
    store = FeatureStore.open(own)
    with pytest.raises(ValueError, match=r"patches/c/1/0/0/0: .*; run the stage 'vision' again"):
        store.read("patches", IDS[5])
    store.read("patches", IDS[1])
    assert len(store.verify()) == 1
