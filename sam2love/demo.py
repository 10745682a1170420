"""A page to try the model on a video: sentences, and what changes without one or the sound.

Everything that is typed is shown as text, by components that know no markup.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from sam2love.outcome import OVERLAY, STRIP
from sam2love.predict import Predictor

EXAMPLE = Path(__file__).parent / "shipped/example.mp4"
EXAMPLE_SENTENCES = "The object making the longest sound\nThe loudest object\nThe blue square"
LARGEST_UPLOAD = "100mb"
MOST_SENTENCES = 6

Shown = tuple[str | None, str | None]
"""Files of an overlay and of a film strip."""


def build_page(predictor: Predictor, folder: Path) -> gr.Blocks:
    """The page; what it makes is written into folders of their own in `folder`."""

    def segment(video: str, texts: list[str], *, sound: bool) -> tuple[Shown, list[str]]:
        out = Path(tempfile.mkdtemp(dir=folder)) / "out"
        prediction = predictor.predict(video, texts, out=out, sound=sound, progress=True)
        told = [f'"{sentence.text}" {sentence.told}' for sentence in prediction.sentences]
        return (str(out / OVERLAY), str(out / STRIP)), prediction.notes + told

    def run(
        video: str | None,
        lines: str,
        mute: bool,
        blank: bool,
        _: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> Iterator[tuple[str | None, ...]]:
        texts = [line.strip() for line in lines.splitlines() if line.strip()]
        try:
            if video is None or not 1 <= len(texts) <= MOST_SENTENCES:
                raise ValueError(f"choose a video and type 1 to {MOST_SENTENCES} sentences")
            whole, told = segment(video, texts, sound=True)
            yield *whole, None, None, "\n".join(told)
            if mute or blank:
                less, told_less = segment(video, [""] if blank else texts, sound=not mute)
                yield *whole, *less, "\n".join([*told, "Without what is ticked:", *told_less])
        except (ValueError, OSError) as error:
            yield None, None, None, None, str(error)

    with gr.Blocks(title="SAM2-LOVE", analytics_enabled=False) as page:
        gr.Markdown("# SAM2-LOVE\nSegment what a sentence means in a video with sound.")
        with gr.Row():
            video = gr.Video(label="Video", sources=["upload"], height=300)
            with gr.Column():
                lines = gr.Textbox(label="Sentences, one a line", lines=4, max_length=2000)
                mute = gr.Checkbox(label="Also with the sound muted")
                blank = gr.Checkbox(label="Also with the text blank")
                button = gr.Button("Segment", variant="primary")
        gr.Examples([[str(EXAMPLE), EXAMPLE_SENTENCES]], [video, lines])
        told = gr.Textbox(label="What came of it", interactive=False)
        results = []
        with gr.Row():
            for name in ("With everything", "Without what is ticked"):
                with gr.Column():
                    results += [
                        gr.Video(label=name, interactive=False, height=300),
                        gr.Image(show_label=False, interactive=False, buttons=["fullscreen"]),
                    ]
        button.click(run, [video, lines, mute, blank], [*results, told], show_progress_on=told)
    return page


def serve(predictor: Predictor, *, host: str, port: int) -> None:
    """Serve the page until interrupted; what it made is removed then."""
    with tempfile.TemporaryDirectory() as folder:
        build_page(predictor, Path(folder)).launch(
            server_name=host,
            server_port=port,
            max_file_size=LARGEST_UPLOAD,
            allowed_paths=[str(EXAMPLE.parent)],
        )
