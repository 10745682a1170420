"""The device of each process, and everything run on fake CUDA tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sam2love import device
from sam2love.device import mixed_precision, precision, start_device, use_device
from sam2love.encoders.audio import load_audio_encoder
from sam2love.encoders.text import load_text_encoder
from sam2love.encoders.vision import load_vision_encoder
from sam2love.fusion import FusionTransformer
from sam2love.grounding import LearnedPositions
from sam2love.joint import JointFusion
from sam2love.loss import weigh
from sam2love.model import SAM2Love
from sam2love.params import Loss, Runtime, load_params
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import click, grid_positions
from sam2love.sam.encode import encode_frames
from sam2love.sam.propagate import MaskStream, propagate
from sam2love.stores.features import Features
from sam2love.stores.store import FeatureStore
from sam2love.training.batches import Batch
from sam2love.training.loop import losses
from tests import tiny

CUDA = torch.device("cuda")
ROWS, FRAMES, PATCHES, WORDS = 3, 10, 16, 5
DIMS = {"audio_dim": 12, "visual_dim": 8, "text_dim": 8}


@pytest.fixture
def gpus(monkeypatch) -> dict:
    """Make torch report two GPUs; return the settings it receives."""
    settings: dict = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: settings.update(current=device))
    monkeypatch.setattr(
        torch, "set_float32_matmul_precision", lambda precision: settings.update(products=precision)
    )
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return settings


def runtime(name: str) -> Runtime:
    return Runtime(device=name, threads=torch.get_num_threads(), processes=1, workers=0)


@pytest.mark.parametrize(("rank", "number"), [(None, 0), ("0", 0), ("1", 1)])
def test_each_rank_takes_its_own_gpu(gpus, monkeypatch, rank, number):
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    own = torch.device("cuda", number)
    assert start_device(runtime("cuda")) == own
    assert gpus == {"current": own, "products": "high"}
    assert precision(own) == "bfloat16"


@pytest.mark.parametrize("rank", ["2", "-1", "one"])
def test_a_rank_without_a_gpu(gpus, monkeypatch, rank):
    monkeypatch.setenv("LOCAL_RANK", rank)
    message = rf"^runtime\.device is cuda, but torch finds 2 GPUs, .*LOCAL_RANK {rank}.*\.yaml$"
    with pytest.raises(ValueError, match=message):
        start_device(runtime("cuda"))


def test_a_machine_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"finds 0 GPUs, .*set runtime\.device to cpu"):
        start_device(runtime("cuda"))


def test_a_cpu_computes_in_float32(gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    own = start_device(runtime("cpu"))
    assert own == use_device("cpu") == torch.device("cpu")
    assert gpus == {}
    with mixed_precision(own):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert precision(own) == "float32"


def test_a_device_by_name_or_the_best_available(gpus):
    assert use_device() == use_device("cuda") == CUDA
    assert use_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="'cuda:2': not on this machine; expected cpu or cuda or"):
        use_device("cuda:2")


@pytest.fixture
def fake_mode(monkeypatch) -> FakeTensorMode:
    """Give tensors a shape, dtype and device, even `cuda`, but no content."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    # In inference mode torch requires a real GPU.
    monkeypatch.setattr(MaskStream, "step", torch.no_grad()(MaskStream.step.__wrapped__))
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.mark.parametrize("joint", [False, True])
def test_no_tensor_is_left_on_the_cpu(fake_mode, joint):
    sam2 = build_sam2(str(tiny.SAM2_CONFIG))
    positions = LearnedPositions(32, patch_positions=grid_positions(sam2, cells=PATCHES))
    shared = {**DIMS, **tiny.FUSION, "dim": 32, "layers": 2, "positions": positions}
    fusion = JointFusion(trajectories=True, **shared) if joint else FusionTransformer(**shared)
    model = SAM2Love(fusion, sam2, any_frame=joint)
    with fake_mode:
        model.to(CUDA)
        side = sam2.image_size
        levels = encode_frames(sam2, torch.rand(ROWS, 3, side, side, device=CUDA))
        assert levels[1].dtype == torch.bfloat16
        features = Features(
            torch.rand(ROWS, FRAMES, DIMS["audio_dim"]),
            torch.rand(ROWS, FRAMES, PATCHES, DIMS["visual_dim"]).half(),
            torch.rand(ROWS, FRAMES, DIMS["visual_dim"]).half(),
            torch.rand(ROWS, WORDS, DIMS["text_dim"]).half(),
            torch.ones(ROWS, WORDS, dtype=torch.bool),
        )
        stored = tuple(level.cpu().half() for level in levels)
        masks = [torch.zeros(size, dtype=torch.bool) for size in ((48, 64), (40, 64), (48, 64))]
        frame = torch.zeros(ROWS, dtype=torch.int64) if joint else None
        batch = Batch(features, stored, masks, torch.ones(ROWS, dtype=torch.bool), frame)
        terms = losses(model, batch.to(CUDA))
        assert all(term.is_cuda and term.dtype == torch.float32 for term in terms.values())
        weights = dict.fromkeys(Loss.model_fields, 1.0)
        assert weigh(terms, Loss(**weights)).is_cuda
        with torch.no_grad():
            prompts = click(sam2, torch.rand(ROWS + 1, 2, device=CUDA))
            clips = tuple(torch.stack([level] * 4, dim=1) for level in levels)
            clip_of_row = torch.tensor([0, 1, 2, 2], device=CUDA)
            for result in propagate(sam2, clips, prompts, clip_of_row):
                assert result.is_cuda
                assert result.dtype == torch.float32
        with pytest.raises(RuntimeError, match="device"):  # a tensor on the CPU is detected
            losses(model, batch)


def test_each_encoder_computes_in_the_precision_of_the_device(run_folder, monkeypatch):
    params = load_params()
    audio = load_audio_encoder(params.audio.weights, params.audio.digest)
    vision = load_vision_encoder(params.vision.weights, params.vision.digest)
    text = load_text_encoder(params.text.weights, params.text.digest, max_tokens=12)
    sound = torch.sin(torch.arange(16000.0))
    pictures = torch.rand(2, 3, vision.image_size, vision.image_size)

    def encoded() -> list[torch.Tensor]:
        return [audio.encode(sound, 16000), *vision.encode(pictures), text.encode(["a cat"])[0]]

    single = encoded()
    monkeypatch.setattr(device, "HALF_PRECISION", ("cpu",))
    for half, exact in zip(encoded(), single, strict=True):
        assert half.dtype == torch.float32
        assert not torch.allclose(half, exact, rtol=1e-4, atol=0)
        assert torch.cosine_similarity(half.flatten(), exact.flatten(), dim=0) > 0.99


@pytest.mark.slow
def test_every_stage_runs_in_bfloat16_and_records_it(run_folder, refavs_root, monkeypatch):
    monkeypatch.setattr(device, "HALF_PRECISION", ("cpu",))
    check_pipeline(run_folder, refavs_root)
    # A store computed in bfloat16 can be read on a device that computes in float32.
    monkeypatch.undo()
    monkeypatch.chdir(run_folder)
    runs = dict(tiny.stage_runs(refavs_root))
    runs["propagate"]()
    assert FeatureStore.open("predictions/masks.zarr").provenance["precision"] == "float32"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU available")
def test_every_stage_runs_on_a_gpu(run_folder, refavs_root):
    tiny.change_params(run_folder / "params.yaml", {"runtime.device": "cuda"})
    check_pipeline(run_folder, refavs_root)


def check_pipeline(folder, root) -> None:
    """Run every stage on a device where networks run in bfloat16."""
    for _, run in tiny.stage_runs(root):
        run()
    stores = {*folder.glob("features/*.zarr"), *folder.glob("predictions/*.zarr")}
    stores.remove(folder / "features/labels.zarr")  # computed without a network
    assert len(stores) == 6
    for path in stores:
        assert FeatureStore.open(path).provenance["precision"] == "bfloat16", path
    assert (folder / "report/index.html").is_file()
