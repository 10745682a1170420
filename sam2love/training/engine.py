"""The engine of a training: one process, DDP, or ZeRO-2 by DeepSpeed, all through accelerate."""

from importlib.util import find_spec

import torch
from accelerate import Accelerator, DeepSpeedPlugin, DistributedDataParallelKwargs, DistributedType

from sam2love.params import Train


def start_engine(train: Train, *, device: torch.device) -> Accelerator:
    """Join the processes that were launched, as the parameters state them.

    Args:
        device: this process's, from `start_device`.

    Raises:
        ValueError: there are more or fewer processes, or it is another engine.
    """
    zero2 = train.engine == "zero2"
    if zero2 and find_spec("deepspeed") is None:
        raise ValueError("train.engine zero2 needs DeepSpeed: pip install 'sam2love[deepspeed]'")
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        gradient_accumulation_steps=train.accumulation,
        mixed_precision="no",  # the model does that itself (device.py)
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=_deepspeed(train)) if zero2 else None,
        # Grounding reaches no mask decoder, and not every loss each of its heads.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.num_processes != train.processes:
        raise ValueError(
            f"train.processes is {train.processes}, but {accelerator.num_processes} run; without "
            "torchrun, the stage starts as many as are stated"
        )
    running = accelerator.distributed_type
    if (running == DistributedType.DEEPSPEED) != zero2:  # on a CPU it quietly takes another
        raise ValueError(
            f"train.engine is {train.engine}, but what runs is {running.value}; zero2 needs "
            "runtime.device cuda"
        )
    # By LOCAL_RANK too, or the current one.
    assert torch.empty(0, device=accelerator.device).device == device
    return accelerator


def _deepspeed(train: Train) -> dict:
    """DeepSpeed's own configuration."""
    return {
        "train_micro_batch_size_per_gpu": train.batch_size,
        "gradient_accumulation_steps": train.accumulation,
        "gradient_clipping": train.clip_norm,
        "zero_optimization": {"stage": 2},
    }
