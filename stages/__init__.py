"""The pipeline's stages: each module is one stage of dvc.yaml, run as `python -m stages.<name>`.

If a main's first argument is the data set's root, it is not on the command line but `data.root`.
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
"""Wider vector instructions sum in another order and would give other bytes. The libraries read
these variables when they are imported."""

if platform.machine() == "x86_64":
    for _name, _value in _INSTRUCTIONS.items():
        os.environ.setdefault(_name, _value)

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
"""How long a waiting thread spins before it sleeps. With the default, one other busy process makes
a step on two cores 15 times slower, with this value about twice; on idle cores nothing changes
(docs/performance.md). Read when torch is imported."""

_PARENT = os.getppid()
"""Read before a stage's imports, which take seconds."""


def run(main: Callable[..., None], *, root: bool = False, processes: str | None = None) -> None:
    """Run a stage's main from the command line; faults of the input are reported in one line.

    The stage exits when its parent does, even if that is killed, so that it never writes unseen.

    A ValueError raised in our own code is for the user: its message names the file and the remedy,
    and a traceback would bury it. The same holds for errors of the system, such as a full disk.
    Everything else is a bug and keeps its traceback.

    Args:
        root: whether the first argument is the data set's root. It is read from params.yaml, so
            that no shell interprets the path.
        processes: the section of params.yaml whose `processes` is the number of processes that
            run this stage together; by default one.
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
    return f"./{root}" if root.startswith("-") else root  # otherwise it is parsed as an option


def _become_launcher(section: str) -> None:
    """If several processes are requested, let torchrun start them, each with a LOCAL_RANK.

    torchrun replaces this process, so it also exits when the stage's parent does.
    """
    from sam2love.params import load_params

    params = load_params()
    if (count := getattr(params, section).processes) == 1:
        return
    # Otherwise torchrun sets it to 1, with a warning.
    os.environ.setdefault("OMP_NUM_THREADS", str(params.runtime.threads))
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    spec = sys.modules["__main__"].__spec__
    script = ["-m", spec.name] if spec else sys.argv[:1]
    os.execv(sys.executable, [sys.executable, "-m", *launcher, *script, *sys.argv[1:]])


def _die_with_parent() -> None:
    """Have the system kill this process when its parent exits; on Linux only."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in <linux/prctl.h>
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != _PARENT:  # the parent exited before prctl took effect
        sys.exit("error: the process that started this stage has exited")
