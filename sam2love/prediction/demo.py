"""A page to try the model on a video: sentences, and what changes without one or the sound.

Everything that is typed is shown as text, by components that know no markup.
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

from sam2love.prediction.outcome import BELIEF_MEANS, OVERLAY, STRIP

if TYPE_CHECKING:
    from sam2love.prediction.predictor import Predictor

EXAMPLE = Path(__file__).parent / "shipped/example.mp4"
EXAMPLE_SENTENCES = "The object making the longest sound\nThe loudest object\nThe blue square"
LARGEST_UPLOAD = "100mb"
MOST_SENTENCES, MOST_LETTERS = 6, 2000

Shown = tuple[str | None, ...]
"""Files of an overlay, of a film strip, and of all that was written, zipped."""
NOTHING: Shown = (None, None, None)


def build_page(predictor: "Predictor", folder: Path) -> gr.Blocks:
    """Build the page; it writes results into new folders in `folder`."""

    def segment(
        video: str, texts: list[str], *, sound: bool = True, words: bool = True
    ) -> tuple[Shown, list[str]]:
        out = Path(tempfile.mkdtemp(dir=folder)) / f"{Path(video).stem}-masks"
        outcome = predictor.predict(video, texts, out=out, sound=sound, words=words, progress=True)
        archive = shutil.make_archive(str(out), "zip", out)
        return (str(out / OVERLAY), str(out / STRIP), archive), outcome.lines

    def run(
        video: str | None,
        typed: str,
        mute: bool,
        blank: bool,
        _: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> Iterator[tuple[str | None, ...]]:
        texts = [line.strip() for line in typed.splitlines() if line.strip()]
        try:
            if video is None or not 1 <= len(texts) <= MOST_SENTENCES or len(typed) > MOST_LETTERS:
                raise ValueError(
                    f"choose a video and type 1 to {MOST_SENTENCES} sentences, {MOST_LETTERS} "
                    f"letters at most; found {len(texts)} sentences, {len(typed)} letters"
                )
            whole, lines = segment(video, texts)
            yield *whole, *NOTHING, "\n".join(lines)
            if mute or blank:
                given = ["(no sentence)"] if blank else texts
                less, fewer = segment(video, given, sound=not mute, words=not blank)
                yield *whole, *less, "\n".join([*lines, "Without what is ticked:", *fewer])
        except (ValueError, OSError) as error:
            yield *NOTHING, *NOTHING, _names_only(str(error), folder)

    with gr.Blocks(title="SAM2-LOVE", analytics_enabled=False) as page:
        gr.Markdown("# SAM2-LOVE\nSegment what a sentence means in a video with sound.")
        with gr.Row():
            video = gr.Video(label="Video", sources=["upload"], height=300)
            with gr.Column():
                typed = gr.Textbox(label="Sentences, one a line", lines=4)
                mute = gr.Checkbox(label="Also with the sound muted")
                blank = gr.Checkbox(label="Also with the text blank")
                button = gr.Button("Segment", variant="primary")
        gr.Examples([[str(EXAMPLE), EXAMPLE_SENTENCES]], [video, typed])
        outcome = gr.Textbox(label="Result", info=BELIEF_MEANS, interactive=False)
        results = []
        with gr.Row():
            for name in ("With everything", "Without what is ticked"):
                with gr.Column():
                    results += [
                        gr.Video(label=name, interactive=False, height=300),
                        gr.Image(show_label=False, interactive=False, buttons=["fullscreen"]),
                        gr.File(label="Masks, overlay, strip and beliefs", interactive=False),
                    ]
        button.click(
            run, [video, typed, mute, blank], [*results, outcome], show_progress_on=outcome
        )
    return page


def serve(model: str, *, host: str, port: int, password: str | None = None) -> None:
    """Serve the page until interrupted or terminated.

    Args:
        model: see `SAM2Love.from_pretrained`.
        password: asked for, with any user name, if given.

    Raises:
        ValueError: nothing can be served at this address, or the password is empty.
        OSError, ValueError: the model can't be loaded.
    """
    if password == "":
        raise ValueError("the password is empty; give one, or leave --password out")
    if not _is_loopback(host, port) and password is None:
        print(
            f"warning: --host {host} lets everyone who reaches this machine use the page; "
            "--password asks for one",
            file=sys.stderr,
        )
    from sam2love.prediction.predictor import (
        Predictor,  # takes seconds, and an address that is in use doesn't
    )

    predictor = Predictor.from_pretrained(model)
    with _removed_at_the_end() as folder:
        build_page(predictor, folder).launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            max_file_size=LARGEST_UPLOAD,
            allowed_paths=[str(EXAMPLE.parent)],
            auth=(lambda _, given: _same(given, password)) if password else None,
        )
    # A thread that is still segmenting would make the interpreter abort at its end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _same(given: str, password: str) -> bool:
    """Compare passwords, which may hold any bytes, in a time that gives nothing away."""
    return hmac.compare_digest(*(text.encode(errors="surrogatepass") for text in (given, password)))


def _is_loopback(host: str, port: int) -> bool:
    """Whether only this machine reaches an address; raises ValueError if it can't be served."""
    try:
        if not 1 <= port <= 65535:
            raise OSError("no such port")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--host {host} --port {port}: can't serve there ({reason}); choose an address of this "
            "machine and a free port, 1 to 65535"
        ) from None
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)


@contextmanager
def _removed_at_the_end() -> Iterator[Path]:
    """A folder for all files of the page, Gradio's too; signals that end programs end it in order.

    A thread that is still segmenting may write while its files are removed, until it finds no
    folder to write in.
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


def _names_only(line: str, folder: Path) -> str:
    """A message without the folders of temporary files, whose names it keeps."""
    return re.sub(re.escape(f"{folder}/") + r"(\S*/)?", "", line)
