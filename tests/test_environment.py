"""The lines for a bug report."""

import torch

from sam2love.environment import describe_environment, gpu_fault
from tests import tiny


def test_versions_weights_and_stores(run_folder, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    lines = describe_environment()
    assert any(line.startswith("torch ") for line in lines)
    assert "GPU: no driver found" in lines
    matching = [line for line in lines if line.endswith("digest matches")]
    assert len(matching) == 8  # four of params.yaml, four of the default model
    tiny.change_params(run_folder / "params.yaml", {"audio.weights": "weights/gone.safetensors"})
    (run_folder / "features/audio.zarr").mkdir(parents=True)
    lines = describe_environment()
    assert "params.yaml: weights/gone.safetensors is not on this machine" in lines
    assert any(line.startswith("features/audio.zarr: ") for line in lines)


def test_gpu_out_of_memory():
    out_of_memory = torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ..."
    )
    assert gpu_fault(out_of_memory).startswith("CUDA out of memory; lower the stage's batch_size")
    assert gpu_fault(RuntimeError("shapes differ")) == ""
