"""Choose the device and the precision of a process, for every stage and for `predict`."""

import os

import torch

from sam2love.params import Runtime

HALF_PRECISION = ("cuda",)
"""Device types on which networks run in bfloat16 autocast; on others they run in float32."""


def start_device(runtime: Runtime) -> torch.device:
    """Set the number of threads, and return the device of this process.

    Each process started by torchrun uses the GPU of its LOCAL_RANK, which becomes the current one.

    Raises:
        ValueError: there is no such GPU.
    """
    torch.set_num_threads(runtime.threads)
    if runtime.device == "cpu":
        return torch.device("cpu")
    rank, gpus = os.environ.get("LOCAL_RANK", "0"), torch.cuda.device_count()
    if rank not in map(str, range(gpus)):
        raise ValueError(
            f"runtime.device is cuda, but torch finds {gpus} GPUs, and this process (LOCAL_RANK "
            f"{rank}) needs number {rank}, counted from 0; start at most one process per GPU, or "
            "set runtime.device to cpu in params.yaml"
        )
    device = use_device(f"cuda:{rank}")
    torch.cuda.set_device(device)
    return device


def use_device(name: str | None = None) -> torch.device:
    """Return a device by name; for a GPU, also allow TF32 in float32 matrix products.

    Args:
        name: "cpu", "cuda" or "cuda:N"; by default "cuda" if available, else "cpu".

    Raises:
        ValueError: there is no such device.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    name = name or available[:2][-1]
    if name not in available:
        raise ValueError(f"device {name!r}: not on this machine; expected {' or '.join(available)}")
    device = torch.device(name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def precision(device: torch.device) -> str:
    """Return the precision of networks on a device, "bfloat16" or "float32", for provenance."""
    return "bfloat16" if device.type in HALF_PRECISION else "float32"


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the autocast context of a device's precision; weights stay in float32."""
    half = precision(device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
