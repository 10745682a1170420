"""Rules that decide for which things of a clip a sentence holds.

A rule returns the things for which it holds, or None where a viewer could doubt it (say, two things
are about equally loud). Things are numbered in the scene's order; places and sizes are of frame 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mini.pictures import DIRECTIONS, Kind, Scene
from mini.sounds import Sound

PLACE_MARGIN = 0.12
SIZE_RATIO = 1.4
LEVEL_MARGIN_DB = 6.0
LENGTH_MARGIN_SECONDS = 2.0
ONSET_MARGIN_SECONDS = 1.5
MOVED, UNMOVED = 0.2, 0.08  # fractions of the side: clearly moves, hardly moves
PRESENT, GONE = 0.25, 0.0  # fractions of a thing's own area: clearly visible, invisible

Heard = tuple[Sound | None, ...]
"""The sound of each thing, None for a silent one."""


@dataclass(frozen=True)
class Seen:
    """What the rules need to know of a scene."""

    kinds: tuple[Kind, ...]
    paths: np.ndarray
    """Centres, (things, frames, 2)."""
    areas: np.ndarray
    """Fractions of the frame, (things,)."""
    visible: np.ndarray
    """Visible fraction of each thing's own area, (things, frames)."""

    @classmethod
    def of(cls, scene: Scene, masks: np.ndarray) -> "Seen":
        """Build from a scene and its things' visible parts, (frames, things, side, side) bool."""
        areas = np.array([np.pi * thing.radius**2 for thing in scene.things])
        return cls(
            kinds=tuple(thing.kind for thing in scene.things),
            paths=np.stack([thing.path for thing in scene.things]),
            areas=areas,
            visible=masks.mean(axis=(2, 3)).T / areas[:, None],
        )


Rule = Callable[[Seen, Heard], "set[int] | None"]


def _of_class(seen: Seen, name: str) -> list[int]:
    """Return the things that a colour, a shape, or 'object' names."""
    return [i for i, kind in enumerate(seen.kinds) if name in (kind.colour, kind.shape, "object")]


def _sounding(heard: Heard) -> list[int]:
    return [i for i, sound in enumerate(heard) if sound is not None]


def _highest(values: dict[int, float], margin: float) -> set[int] | None:
    """Return the thing with the highest value if there are others, all lower by the margin."""
    ranked = sorted(values, key=values.__getitem__, reverse=True)
    if len(ranked) < 2 or values[ranked[0]] - values[ranked[1]] < margin:
        return None
    return {ranked[0]}


def _clear(holds: np.ndarray, fails: np.ndarray) -> set[int] | None:
    """Return the things for which it holds, unless for some thing it neither holds nor fails."""
    return set(np.flatnonzero(holds).tolist()) if np.all(holds | fails) else None


def class_rule(name: str) -> Rule:
    return lambda seen, heard: set(_of_class(seen, name))


def place_rule(direction: str) -> Rule:
    way = np.array(DIRECTIONS[direction])
    return lambda seen, heard: _highest(dict(enumerate(seen.paths[:, 0] @ way)), PLACE_MARGIN)


def size_rule(sign: int) -> Rule:
    return lambda seen, heard: _highest(
        dict(enumerate(sign * np.log(seen.areas))), float(np.log(SIZE_RATIO))
    )


def _sound_rule(value: Callable[[Sound], float], margin: float) -> Rule:
    """Return the rule for the sounding thing with the highest value."""
    return lambda seen, heard: _highest(
        {i: value(sound) for i, sound in enumerate(heard) if sound is not None}, margin
    )


loudest_rule = _sound_rule(lambda sound: sound.level_db, LEVEL_MARGIN_DB)
longest_rule = _sound_rule(lambda sound: sound.seconds, LENGTH_MARGIN_SECONDS)
first_rule = _sound_rule(lambda sound: -sound.onset_seconds, ONSET_MARGIN_SECONDS)
last_rule = _sound_rule(lambda sound: sound.onset_seconds, ONSET_MARGIN_SECONDS)


def sounds_rule(name: str, sounds: bool) -> Rule:
    return lambda seen, heard: {
        i for i in _of_class(seen, name) if (heard[i] is not None) == sounds
    }


def relation_rule(side: str, name: str) -> Rule:
    """Return the rule for the next thing on one side of the only sounding one of that name."""

    def rule(seen: Seen, heard: Heard) -> set[int] | None:
        reference = set(_of_class(seen, name)) & set(_sounding(heard))
        if len(reference) != 1:
            return None
        here = reference.pop()
        ahead = (seen.paths[:, 0, 0] - seen.paths[here, 0, 0]) * DIRECTIONS[side][0]
        others = np.delete(ahead, here)
        if np.any(np.abs(others) < PLACE_MARGIN):
            return None
        candidates = {i: -float(gap) for i, gap in enumerate(ahead) if gap > 0 and i != here}
        return _highest(candidates, PLACE_MARGIN) if len(candidates) > 1 else set(candidates)

    return rule


def moving_rule(direction: str) -> Rule:
    """Return the rule for things that move that way and never back, unlike all others."""
    way = np.array(DIRECTIONS[direction])

    def rule(seen: Seen, heard: Heard) -> set[int] | None:
        steps = np.diff(seen.paths @ way, axis=1)
        ahead, back = np.maximum(steps, 0).sum(1), np.maximum(-steps, 0).sum(1)
        return _clear((ahead >= MOVED) & (back <= 0.02), ahead <= UNMOVED)

    return rule


def still_rule(seen: Seen, heard: Heard) -> set[int] | None:
    travel = np.linalg.norm(np.diff(seen.paths, axis=1), axis=2).sum(1)
    return _clear(travel <= 0.01, travel >= MOVED)


def away_rule(seen: Seen, heard: Heard) -> set[int] | None:
    lowest = seen.visible.min(axis=1)
    outside = np.any((seen.paths < 0) | (seen.paths > 1), axis=(1, 2))
    leaves = (lowest <= GONE) & outside & (seen.visible[:, -1] >= PRESENT)
    return _clear(leaves, lowest >= PRESENT)


def throughout_rule(seen: Seen, heard: Heard) -> set[int] | None:
    lowest = seen.visible.min(axis=1)
    return _clear(lowest >= PRESENT, lowest <= GONE)
