"""The pipeline's stages: each module is one stage of dvc.yaml, run as `python -m stages.<name>`."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer


def run(main: Callable[..., None]) -> None:
    """Run a stage's main on the command line; faults of the input are told in a line.

    What our own code raises as ValueError or OSError speaks to the user: its message names file and
    remedy, and a traceback would bury it. Everything else is our mistake and keeps its traceback.
    """
    try:
        typer.run(main)
    except (ValueError, OSError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if {"sam2love", "stages"}.isdisjoint(raised_in.parts[-3:]):
            raise
        sys.exit(f"error: {error}")
