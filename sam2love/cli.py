"""The command line: `sam2love --help`.

Commands import what they need when they run, so that help appears at once.
"""

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from sam2love.encoders.weights import DEFAULT


class _Group(TyperGroup):
    """Commands that report wrong input in one line, without a traceback, with exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):  # both are RuntimeErrors
            raise
        except (ValueError, OSError) as error:
            line = str(error)
        except RuntimeError as error:
            from sam2love.environment import gpu_fault

            if not (line := gpu_fault(error)):
                raise
        typer.echo(f"error: {line}", err=True)
        raise typer.Exit(1)


# Help is plain text: as markup, [demo] in it would be dropped as an unknown tag.
app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

MODEL = "A folder from `sam2love export`, or a hub id; by default the mini model shipped here."
Model = Annotated[str, Option(help=MODEL, show_default=False)]
Frames = Annotated[int, Option(min=1, help="Frames, and seconds of sound, of a clip.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from sam2love.environment import installed_version

        typer.echo(f"sam2love {installed_version('sam2love')}")
        raise typer.Exit


@app.callback()
def _about(
    _: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Segment what a sentence refers to in a video with sound, and score such masks."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may contain any bytes
        sys.stdout.reconfigure(errors="backslashreplace")


def _print_lines(lines: Iterable[str], *, ok: bool = True) -> None:
    for line in lines:
        typer.echo(line)
    if not ok:
        raise typer.Exit(1)


@app.command()
def check(
    root: Annotated[Path, Argument(help="A data set, a store, or a folder such as features/.")],
    every: Annotated[bool, Option("--all", help="List all faults, not a few per kind.")] = False,
    frames: Frames = 10,
) -> None:
    """Check a data set in Ref-AVS's layout, or stores, and print each fault with its file or row.

    In a data set, every frame, sound and mask is read; rows of metadata.csv are numbered from 0
    below the header. Fatal faults would stop the pipeline, notes would not. The exit status is 1 if
    a fault is fatal or nothing is usable. In stores, every checksum is verified, and any fault sets
    the exit status to 1. Example: sam2love check mini/data
    """
    from sam2love.stores.inspection import find_stores, verify_stores

    if not root.is_dir():
        raise NotADirectoryError(f"{root}: no such folder; expected a data set or stores")
    if stores := find_stores(root):
        lines, ok = verify_stores(stores)
        _print_lines(lines, ok=ok)
        return
    from sam2love.dataset.check import examine

    if not examine(root, write=typer.echo, every=every, frames=frames):
        raise typer.Exit(1)


@app.command()
def convert(
    dataset: Annotated[str, Argument(help="avsbench, ref-youtube-vos or mevis.")],
    source: Annotated[Path, Argument(help="The folder of the data set, as published.")],
    out: Annotated[Path, Argument(help="Output folder; must be new or empty.")],
    frames: Frames = 10,
) -> None:
    """Convert another data set to the layout of Ref-AVS; docs/data.md describes the folders.

    Of each video FRAMES frames are taken, one for each second of the clip; set data.frames to the
    same number, and fusion.modalities to what the data set has. Example:

    sam2love convert mevis MeViS data/mevis
    """
    from sam2love.convert.writing import READERS
    from sam2love.convert.writing import convert as write

    if dataset not in READERS:
        raise ValueError(f"{dataset!r}: unknown data set, expected {', '.join(READERS)}")
    _print_lines(write(dataset, source, out, frames=frames))


@app.command()
def inspect(store: Annotated[Path, Argument(help="A store, such as vision.zarr.")]) -> None:
    """Print a store's arrays, provenance, size and health.

    Every checksum is verified, which reads the whole store. The exit status is 1 if it is damaged.
    Example: sam2love inspect features/vision.zarr
    """
    from sam2love.stores.inspection import describe_store

    lines, ok = describe_store(store)
    _print_lines(lines, ok=ok)


@app.command()
def score(
    masks: Annotated[Path, Argument(help="A folder of PNGs, or a masks.zarr of this pipeline.")],
    root: Annotated[Path, Argument(help="A data set: metadata.csv and gt_mask/, as Ref-AVS's.")],
    json_file: Annotated[Path | None, Option("--json", help="Also write the scores here.")] = None,
    csv_file: Annotated[Path | None, Option("--csv", help="Also write row scores here.")] = None,
    only: Annotated[str | None, Option(help="A subset: cleaned or unseen-expressions.")] = None,
    frames: Frames = 10,
) -> None:
    """Score any system's masks: J, F, J&F on seen, unseen and mix, S on null; val too if present.

    MASKS holds <uid>/00000.png and so on, 8-bit gray of any size, where value / 255 is the
    foreground probability. Four protocols are used: refavs (the benchmark's own), frame, original
    and davis. A split without any masks is skipped; one with only some of its masks is an error.
    --only cleaned leaves out repeated, ambiguous and placeholder expressions; --only
    unseen-expressions keeps those that are not in train. Example:

    sam2love score my-masks mini/data --json scores.json
    """
    from sam2love.evaluation.scoring import score_masks

    score_masks(masks, root, json_file=json_file, csv_file=csv_file, only=only, frames=frames)


@app.command()
def weights(
    params: Annotated[Path, Option(help="The file that names the weights.")] = Path("params.yaml"),
) -> None:
    """Fetch and verify the weights named in the parameters; docs/weights.md explains the names.

    Prints a line for each: found, fetched or missing, its SHA-256, and what to do if the parameters
    expect another. The exit status is 1 if any is missing or differs. Example:

    sam2love weights --params profiles/paper.yaml
    """
    from sam2love.encoders.weights import fetch_and_describe
    from sam2love.params import Weights, load_params

    complete = True
    loaded = load_params(params)
    for name, section in (*loaded, ("train.init", loaded.train.init)):
        if isinstance(section, Weights):
            line, ok = fetch_and_describe(section.weights, section.digest)
            typer.echo(f"{name}: {line}")
            complete &= ok
    if not complete:
        raise typer.Exit(1)


@app.command()
def report(
    runs: Annotated[list[Path] | None, Argument(metavar="[RUN]...", show_default=False)] = None,
    out: Annotated[Path | None, Option(help="Output folder; by default RUN/report.")] = None,
    compare: Annotated[Path | None, Option(metavar="BASELINE|JSON|-", help="Print tables.")] = None,
) -> None:
    """Write index.html, a page about a run: scores, families, curves and film strips.

    RUN, by default the current folder, holds params.yaml, index/, predictions/, scores/, model/,
    metrics.json and, where there is one, diagnostics.csv. The page is self-contained.
    Example: sam2love report . --out /tmp/page

    With --compare JSON, or - for stdin: print Markdown tables of what `dvc exp show --json` prints,
    one row per setting, mean and spread over seeds, the paper's ablations beside ours.
    Example: dvc exp show --json | sam2love report --compare -

    With --compare BASELINE: print what each RUN gains or loses on the same rows, by split and
    family, with 95 % intervals and a verdict. BASELINE and each RUN are folders with scores/, or
    with seed1/scores/ and so on. Example: sam2love report runs/none --compare runs/default
    """
    runs = runs or [Path(".")]
    if compare is not None:
        tables, notes = _compare(runs, compare)
        for note in notes:
            typer.echo(f"warning: {note}", err=True)
        typer.echo(tables)
        return
    if len(runs) > 1:
        raise ValueError(f"a page is about one run, found {len(runs)}; give one, or add --compare")
    from sam2love.params import load_params
    from sam2love.report.page import write_report

    (run,) = runs
    params, folder = load_params(run / "params.yaml"), out or run / "report"
    write_report(
        folder,
        root=run / params.data.root,
        index_folder=run / "index",
        predictions=run / "predictions",
        scores=run / "scores",
        model=run / "model",
        metrics=run / "metrics.json",
        diagnostics=run / "diagnostics.csv",
        settings=params.model_dump(include={"fusion", "train"}),
        frames=params.data.frames,
    )
    typer.echo(folder / "index.html")


def _compare(runs: list[Path], baseline: Path) -> tuple[str, list[str]]:
    if baseline.is_dir():
        from sam2love.compare.paired import compare_settings

        return compare_settings(runs, baseline)
    from sam2love.compare.tables import compare_experiments

    if baseline == Path("-"):
        return compare_experiments(typer.get_text_stream("stdin", encoding="utf-8").read())
    if not baseline.is_file():
        raise FileNotFoundError(f"{baseline}: no folder of runs, and no file of experiments")
    return compare_experiments(baseline.read_text(encoding="utf-8"))


@app.command()
def predict(
    video: Annotated[Path, Argument(help="Any video that FFmpeg can read.")],
    text: Annotated[list[str], Option(help="What to segment; repeat for several sentences.")],
    out: Annotated[Path | None, Option(help="Output folder; by default <video>-masks.")] = None,
    model: Model = DEFAULT,
    device: Annotated[str | None, Option(help="cpu, cuda or cuda:N; by default a GPU.")] = None,
    frame: Annotated[
        int | None, Option(help="Prompt this frame, from 0, and track both ways.")
    ] = None,
    point: Annotated[str | None, Option(metavar="X,Y", help="A pixel of the object there.")] = None,
    every: Annotated[int, Option(metavar="N", help="Only every Nth frame of a long video.")] = 1,
) -> None:
    """Segment what a sentence refers to in a video with sound.

    Writes masks/<n>-<sentence>/00000.png and so on (8-bit gray, value / 255 is the probability),
    masks.json (COCO's format), overlay.mp4, strip.png and belief.json. Belief is SAM 2's score, per
    frame, that an object is in view. It doesn't say whether the sentence fits: absent objects and
    unknown words can score 1.00 too.

    With --frame, the ten seconds from that frame on are what the sentence is read with, whatever
    their belief. Where it shows a wrong object, --point clicks on the right one, at X,Y in pixels
    of that frame, counted from 0; the click takes the sentence's place. Example:

    sam2love predict clip.mp4 --text "the object making the loudest sound" --out clip-masks
    """
    from sam2love.prediction.outcome import BELIEF_MEANS, Choice, check_request

    folder, clicked = out or Path(f"{video.stem}-masks"), _pixel(point)
    # Before loading torch and the model, which takes seconds.
    check_request(video, text, folder, Choice(frame, clicked, every))
    from sam2love.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(model, device=device)
    outcome = predictor.predict(
        video, text, out=folder, frame=frame, point=clicked, every=every, progress=True
    )
    _print_lines([*outcome.lines, f"note: {BELIEF_MEANS}", str(folder)])


def _pixel(point: str | None) -> tuple[int, int] | None:
    if point is None:
        return None
    try:
        x, y = map(int, point.split(","))
    except ValueError:
        raise ValueError(f"--point {point}: expected X,Y in pixels, such as 64,40") from None
    return x, y


@app.command()
def export(
    run: Annotated[Path, Argument(help="Where the pipeline ran: has params.yaml and model/.")],
    out: Annotated[Path, Argument(help="Output folder; must be new or empty.")],
) -> None:
    """Export a run's trained model to a folder for `sam2love predict --model` and from_pretrained.

    Example: sam2love export . my-model
    """
    from sam2love.model import WEIGHTS, SAM2Love
    from sam2love.params import load_params
    from sam2love.prediction.outcome import atomic_folder

    params, trained = load_params(run / "params.yaml"), run / "model" / WEIGHTS
    if not trained.is_file():
        raise FileNotFoundError(f"{trained}: no such file; run the stage 'train'")
    with atomic_folder(out) as folder:
        SAM2Love.restore(params, trained).save_pretrained(folder)
    typer.echo(out)


@app.command()
def demo(
    model: Model = DEFAULT,
    host: Annotated[str, Option(help="Address; by default local only.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port, 1 to 65535.")] = 7860,
    password: Annotated[
        str | None, Option(envvar="SAM2LOVE_PASSWORD", help="Require it, with any user name.")
    ] = None,
) -> None:
    """Serve a web page to try the model on a video: type sentences, watch the overlays.

    Needs the extra: pip install 'sam2love[demo]'. Uploads and results are deleted on exit. With
    --password the password shows in the process list; with SAM2LOVE_PASSWORD it does not.
    Example: sam2love demo --port 8000
    """
    try:
        from sam2love.prediction.demo import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; pip install 'sam2love[demo]'") from None
    serve(model, host=host, port=port, password=password)


@app.command()
def env() -> None:
    """Print versions, devices, weights and stores, for a bug report. Example: sam2love env"""
    from sam2love.environment import describe_environment

    _print_lines(describe_environment())


if __name__ == "__main__":
    app()
