"""One process, DDP, or ZeRO-2 by DeepSpeed: all through accelerate."""

from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, DeepSpeedPlugin, DistributedDataParallelKwargs, DistributedType

from sam2love.params import Train

TENSORBOARD = Path("tensorboard")
"""The folder that TensorBoard is to show, if its extra is installed. No output of a stage."""


def start_engine(train: Train, *, device: torch.device) -> Accelerator:
    """Connect this process to the others, and check them against the parameters.

    Args:
        device: of this process, from `start_device`.

    Raises:
        ValueError: the number of processes or the engine is not the one stated.
    """
    zero2 = train.engine == "zero2"
    if zero2 and find_spec("deepspeed") is None:
        raise ValueError("train.engine zero2 needs DeepSpeed: pip install 'sam2love[deepspeed]'")
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        gradient_accumulation_steps=train.accumulation,
        mixed_precision="no",  # the model applies it itself (device.py)
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=_deepspeed(train)) if zero2 else None,
        # Grounding doesn't use the mask decoder, and not every loss uses each of its heads.
        log_with="tensorboard" if find_spec("tensorboard") else None,
        project_dir=TENSORBOARD,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.num_processes != train.processes:
        raise ValueError(
            f"train.processes is {train.processes}, but {accelerator.num_processes} are running; "
            "started without torchrun, the stage starts as many as stated"
        )
    running = accelerator.distributed_type
    if (running == DistributedType.DEEPSPEED) != zero2:  # on a CPU accelerate silently falls back
        raise ValueError(
            f"train.engine is {train.engine}, but {running.value} is running; zero2 needs "
            "runtime.device cuda"
        )
    # accelerate chooses by LOCAL_RANK too.
    assert torch.empty(0, device=accelerator.device).device == device
    return accelerator


def _deepspeed(train: Train) -> dict:
    """Return DeepSpeed's configuration."""
    return {
        "train_micro_batch_size_per_gpu": train.batch_size,
        "gradient_accumulation_steps": train.accumulation,
        "gradient_clipping": train.clip_norm,
        "zero_optimization": {"stage": 2},
    }
