"""The pipeline's stages: each module is one stage of dvc.yaml, run as `python -m stages.<name>`.

Where a main begins with the data set's root, the command line goes without it: it is `data.root`.
"""

import ctypes
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

_INSTRUCTIONS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
"""Wider instructions sum in another order, so a processor that has them would give other bytes. The
libraries read this when they are imported."""

if platform.machine() == "x86_64":
    for _name, _value in _INSTRUCTIONS.items():
        os.environ.setdefault(_name, _value)

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
"""How long a waiting thread spins before it sleeps. By default it spins for so long that one other
busy process makes a step on two cores 15 times slower; with this it is about twice as slow, and on
idle cores nothing changes (docs/performance.md). Read when torch is imported."""

_PARENT = os.getppid()
"""Asked before a stage's imports, which take seconds."""


def run(main: Callable[..., None], *, root: bool = False, processes: str | None = None) -> None:
    """Run a stage's main on the command line; faults of the input are told in a line.

    The stage dies with whatever started it, even if that is killed: nothing writes on unseen.

    A ValueError of our own code speaks to the user: its message names file and remedy, and a
    traceback would bury it. So does what the system says of files, such as a full disk. Everything
    else is our mistake and keeps its traceback.

    Args:
        root: whether the first argument is the data set's root. It is taken from params.yaml, so
            that no shell reads what may stand in a path.
        processes: the section of params.yaml whose `processes` says how many run this stage
            together; by default one does.
    """
    _die_with_parent()
    try:
        if processes is not None and "LOCAL_RANK" not in os.environ:
            _become_launcher(processes)
        if root:
            sys.argv.insert(1, _data_root())
        typer.run(main)
    except (ValueError, OSError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        ours = not {"sam2love", "stages"}.isdisjoint(raised_in.parts[-4:])
        if isinstance(error, ValueError) and not ours:
            raise
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        from sam2love.environment import gpu_fault

        if not (line := gpu_fault(error)):
            raise
        sys.exit(f"error: {line}")


def _data_root() -> str:
    from sam2love.params import load_params

    root = load_params().data.root
    return f"./{root}" if root.startswith("-") else root  # else it were taken for an option


def _become_launcher(section: str) -> None:
    """Where several processes are asked for, have torchrun start them, each with a LOCAL_RANK.

    It takes the place of this process, so it too dies with what started the stage.
    """
    from sam2love.params import load_params

    params = load_params()
    if (count := getattr(params, section).processes) == 1:
        return
    # torchrun sets it to 1 otherwise, with a warning.
    os.environ.setdefault("OMP_NUM_THREADS", str(params.runtime.threads))
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    spec = sys.modules["__main__"].__spec__
    script = ["-m", spec.name] if spec else sys.argv[:1]
    os.execv(sys.executable, [sys.executable, "-m", *launcher, *script, *sys.argv[1:]])


def _die_with_parent() -> None:
    """Have the system kill this process when its parent ends; on Linux only."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != _PARENT:  # it ended before it was asked for
        sys.exit("error: what started this stage has ended")
