"""The pipeline's stages: each module is one stage of dvc.yaml, run as `python -m stages.<name>`."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer


def run(main: Callable[..., None]) -> None:
    """Run a stage's main on the command line; faults of the input are told in a line.

    A ValueError of our own code speaks to the user: its message names file and remedy, and a
    traceback would bury it. So does what the system says of files, such as a full disk. Everything
    else is our mistake and keeps its traceback.
    """
    try:
        typer.run(main)
    except (ValueError, OSError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        ours = not {"sam2love", "stages"}.isdisjoint(raised_in.parts[-4:])
        if isinstance(error, ValueError) and not ours:
            raise
        sys.exit(f"error: {error}")
