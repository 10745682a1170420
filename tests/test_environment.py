"""What a bug report says."""

import pytest
import torch

from sam2love.environment import describe, gpu_fault
from tests import tiny


def test_versions_weights_and_stores(run_folder, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    lines = describe()
    assert any(line.startswith("torch ") for line in lines)
    assert "GPU: no driver found" in lines
    right = [line for line in lines if line.endswith("as named")]
    assert len(right) == 8  # four of params.yaml, four of the default model
    tiny.change_params(run_folder / "params.yaml", {"audio.weights": "weights/gone.safetensors"})
    (run_folder / "features/audio.zarr").mkdir(parents=True)
    lines = describe()
    assert "params.yaml: weights/gone.safetensors is not on this machine" in lines
    assert any(line.startswith("features/audio.zarr: ") for line in lines)


def test_a_gpu_too_small_or_not_there():
    full = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ...")
    assert gpu_fault(full).startswith("CUDA out of memory; lower the stage's batch_size")
    missing = RuntimeError("Found no NVIDIA driver on your system. Please check that you have ...")
    assert gpu_fault(missing).endswith("; set runtime.device to cpu in params.yaml")
    assert gpu_fault(RuntimeError("shapes differ")) == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_torch_says_without_a_gpu():
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        torch.zeros(1, device="cuda")
    assert gpu_fault(caught.value)
