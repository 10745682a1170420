"""A web page to try the model on a video, with and without its sound or the sentences.

Typed text is shown only by components that don't render markup.
"""

import hmac
import ipaddress
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import pandas as pd

from sam2love.encoders.weights import SHIPPED
from sam2love.prediction.outcome import BELIEF_MEANS, OVERLAY, STRIP, Outcome

if TYPE_CHECKING:
    from sam2love.prediction.predictor import Predictor

EXAMPLE = SHIPPED / "example.mp4"
EXAMPLE_SENTENCES = "The object making the longest sound\nThe loudest object\nThe blue square"
MAX_UPLOAD = "100mb"
MAX_SENTENCES, MAX_CHARACTERS = 6, 2000
ABLATED = "With the ticked inputs removed"

Files = tuple[str | None, ...]
"""Paths of an overlay, a film strip and a zip archive of all output."""
NO_FILES: Files = (None, None, None)


def build_page(predictor: "Predictor", folder: Path) -> gr.Blocks:
    """Build the page, which writes results to new folders in `folder`."""

    def segment(
        video: str,
        texts: list[str],
        *,
        frame: int | None,
        sound: bool = True,
        words: bool = True,
    ) -> tuple[Files, Outcome]:
        out = Path(tempfile.mkdtemp(dir=folder)) / f"{Path(video).stem}-masks"
        outcome = predictor.predict(
            video, texts, out=out, frame=frame, sound=sound, words=words, progress=True
        )
        archive = shutil.make_archive(str(out), "zip", out)
        return (str(out / OVERLAY), str(out / STRIP), archive), outcome

    def run(
        video: str | None,
        typed: str,
        mute: bool,
        blank: bool,
        frame: str,
        _: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> Iterator[tuple[str | gr.LinePlot | None, ...]]:
        texts = [line.strip() for line in typed.splitlines() if line.strip()]
        try:
            enough = 1 <= len(texts) <= MAX_SENTENCES and len(typed) <= MAX_CHARACTERS
            if video is None or not enough:
                raise ValueError(
                    f"choose a video and type 1 to {MAX_SENTENCES} sentences of {MAX_CHARACTERS} "
                    f"characters in total; found {len(texts)} sentences, {len(typed)} characters"
                )
            chosen = _number(frame)
            files, found = segment(video, texts, frame=chosen)
            curves = _curves(found)
            yield *files, *NO_FILES, curves, "\n".join(found.lines)
            if mute or blank:
                read = ["(no sentence)"] if blank else texts
                ablated, more = segment(video, read, frame=chosen, sound=not mute, words=not blank)
                lines = [*found.lines, f"{ABLATED}:", *more.lines]
                yield *files, *ablated, curves, "\n".join(lines)
        except (ValueError, OSError) as error:
            yield *NO_FILES, *NO_FILES, None, _without_folders(str(error), folder)

    with gr.Blocks(title="SAM2-LOVE", analytics_enabled=False) as page:
        gr.Markdown("# SAM2-LOVE\nSegment what a sentence refers to in a video with sound.")
        with gr.Row():
            video = gr.Video(label="Video", sources=["upload"], height=300)
            with gr.Column():
                typed = gr.Textbox(label="Sentences, one per line", lines=4)
                frame = gr.Textbox(
                    label="Frame to prompt, from 0; empty: the first that is believed"
                )
                mute = gr.Checkbox(label="Also with the sound muted")
                blank = gr.Checkbox(label="Also with the text blank")
                button = gr.Button("Segment", variant="primary")
        gr.Examples([[str(EXAMPLE), EXAMPLE_SENTENCES]], [video, typed])
        outcome = gr.Textbox(label="Result", info=BELIEF_MEANS, interactive=False)
        curves = gr.LinePlot(
            x="seconds",
            y="belief",
            color="sentence",
            colors_in_legend=[],  # the overlay has a legend, in which long sentences fit
            y_lim=[0, 1],
            height=200,
            label="Belief, in the colours of the overlay",
        )
        results = []
        with gr.Row():
            for name in ("With all inputs", ABLATED):
                with gr.Column():
                    results += [
                        gr.Video(label=name, interactive=False, height=300),
                        gr.Image(show_label=False, interactive=False, buttons=["fullscreen"]),
                        gr.File(label="Masks, overlay, strip and beliefs", interactive=False),
                    ]
        button.click(
            run,
            [video, typed, mute, blank, frame],
            [*results, curves, outcome],
            show_progress_on=outcome,
        )
    return page


def _number(typed: str) -> int | None:
    """Return the number of the frame, or None if nothing was typed."""
    try:
        return int(typed) if typed.strip() else None
    except ValueError:
        raise ValueError(f"frame {typed}: expected a whole number from 0, or nothing") from None


def _curves(outcome: Outcome) -> gr.LinePlot:
    """Plot each sentence's belief over time, in the colour of its masks."""
    rows = [
        (time, belief, sentence.text)
        for sentence in outcome.sentences
        for time, belief in zip(outcome.times, sentence.beliefs, strict=True)
    ]
    colours = {s.text: "#{:02x}{:02x}{:02x}".format(*s.colour) for s in outcome.sentences}
    beliefs = pd.DataFrame(rows, columns=["seconds", "belief", "sentence"])
    return gr.LinePlot(beliefs, color_map=colours)


def serve(model: str, *, host: str, port: int, password: str | None = None) -> None:
    """Serve the page until interrupted or terminated.

    Args:
        model: see `SAM2Love.from_pretrained`.
        password: required, with any user name, unless None.

    Raises:
        ValueError: the address can't be served at, or the password is empty.
        OSError, ValueError: the model can't be loaded.
    """
    if password == "":
        raise ValueError("the password is empty; expected a non-empty one, or no --password")
    if not _is_loopback(host, port) and password is None:
        print(
            f"warning: --host {host} lets everyone who can reach this machine use the page; "
            "require a password with --password",
            file=sys.stderr,
        )
    from sam2love.prediction.predictor import Predictor  # slow, so only after these checks

    predictor = Predictor.from_pretrained(model)
    with _temporary_folder() as folder:
        build_page(predictor, folder).launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            max_file_size=MAX_UPLOAD,
            allowed_paths=[str(EXAMPLE.parent)],
            auth=(lambda _, typed: _equal(typed, password)) if password else None,
        )
    # A thread that is still segmenting would make the interpreter abort on a normal exit.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _equal(typed: str, password: str) -> bool:
    """Compare passwords, which may contain any bytes, in constant time."""
    return hmac.compare_digest(*(text.encode(errors="surrogatepass") for text in (typed, password)))


def _is_loopback(host: str, port: int) -> bool:
    """Return whether an address is local only; raise ValueError if it can't be served at."""
    try:
        if not 1 <= port <= 65535:
            raise OSError("no such port")
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = addresses[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--host {host} --port {port}: can't serve there ({reason}); choose an address of this "
            "machine and a free port, 1 to 65535"
        ) from None
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in addresses)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder for all files of the page, Gradio's included; remove it on exit or a signal.

    A thread that is still segmenting may write during the removal, until its folder is gone.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="sam2love-demo-")).resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        yield folder
    finally:
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _without_folders(line: str, folder: Path) -> str:
    """Strip the folders of temporary files from a message, keeping their names."""
    return re.sub(re.escape(f"{folder}/") + r"(\S*/)?", "", line)
