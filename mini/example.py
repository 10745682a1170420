"""Write a video of the mini world at 25 frames a second, to try `sam2love predict` on.

    python -m mini.example sam2love/shipped/example.mp4

The defaults write the clip that ships with the package. Prints each sentence that is true of the
clip, after the object that it refers to.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mini import story
from mini.pictures import Thing, render
from mini.sounds import SAMPLE_RATE_HZ
from sam2love.prediction.video import SOUND_RATE_HZ, Frame, VideoWriter

FRAMES_PER_SECOND = 25
NOISE_DB = -60.0


def main(
    out: Annotated[Path, typer.Argument(help="MP4 file to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the clip.")] = 3,
    side: Annotated[int, typer.Option(help="Pixels per side.")] = 128,
) -> None:
    """Write the example video."""
    rng = np.random.default_rng(seed)
    clip = story.sample_story(rng, part="seen", side=side)
    kinds = [thing.kind for thing in clip.scene.things]
    wave = story.mix(rng, kinds, clip.heard, noise_db=NOISE_DB)
    scene = replace(clip.scene, things=tuple(_smooth(thing) for thing in clip.scene.things))
    sound = wave.repeat(SOUND_RATE_HZ // SAMPLE_RATE_HZ).astype(np.float32) / 32768
    pieces = iter([np.stack([sound, sound])])
    with VideoWriter(out, sound=pieces, has_sound=True) as writer:
        for frame in range(story.CLIP_SECONDS * FRAMES_PER_SECOND):
            time, seconds = frame / FRAMES_PER_SECOND, 1 / FRAMES_PER_SECOND
            writer.write(Frame(time, render(scene, frame)[0], seconds))
    for _, sentence, thing in clip.expressions:
        print(f"{kinds[thing].colour} {kinds[thing].shape}: {sentence}")


def _smooth(thing: Thing) -> Thing:
    """Interpolate a thing's path to every frame of the video; it rests after the last second."""
    seconds = np.arange(story.CLIP_SECONDS * FRAMES_PER_SECOND) / FRAMES_PER_SECOND
    path = [np.interp(seconds, np.arange(len(thing.path)), place) for place in thing.path.T]
    return replace(thing, path=np.stack(path, axis=1))


if __name__ == "__main__":
    typer.run(main)
