"""Of which things of a clip something is true: a rule for each kind of saying.

A rule gives the things that it is true of, or None where a viewer could doubt it (two things about
as loud, say). Things are numbered in the scene's order; places and sizes are as of frame 0.
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
MOVED, UNMOVED = 0.2, 0.08  # shares of the side: clearly moves, hardly moves
PRESENT, GONE = 0.25, 0.0  # shares of a thing's own area: can be seen well, not at all

Heard = tuple[Sound | None, ...]
"""The sound of each thing, None for a silent one."""


@dataclass(frozen=True)
class Seen:
    """What the rules need of a scene."""

    kinds: tuple[Kind, ...]
    paths: np.ndarray
    """Centres, (things, frames, 2)."""
    areas: np.ndarray
    """Shares of the frame, (things,)."""
    visible: np.ndarray
    """Share of each thing's own area that can be seen, (things, frames)."""

    @classmethod
    def of(cls, scene: Scene, masks: np.ndarray) -> "Seen":
        """From a scene and the visible parts of its things, (frames, things, side, side) bool."""
        areas = np.array([np.pi * thing.radius**2 for thing in scene.things])
        return cls(
            kinds=tuple(thing.kind for thing in scene.things),
            paths=np.stack([thing.path for thing in scene.things]),
            areas=areas,
            visible=masks.mean(axis=(2, 3)).T / areas[:, None],
        )


Rule = Callable[[Seen, Heard], "set[int] | None"]


def _of_class(seen: Seen, name: str) -> list[int]:
    """The things that a colour, a shape, or 'object' names."""
    return [i for i, kind in enumerate(seen.kinds) if name in (kind.colour, kind.shape, "object")]


def _sounding(heard: Heard) -> list[int]:
    return [i for i, sound in enumerate(heard) if sound is not None]


def _highest(values: dict[int, float], margin: float) -> set[int] | None:
    """The thing with the highest value, if there are others and all are lower by the margin."""
    ranked = sorted(values, key=values.__getitem__, reverse=True)
    if len(ranked) < 2 or values[ranked[0]] - values[ranked[1]] < margin:
        return None
    return {ranked[0]}


def _each(heard: Heard, value: Callable[[Sound], float]) -> dict[int, float]:
    """A value of each thing that sounds."""
    return {i: value(sound) for i, sound in enumerate(heard) if sound is not None}


def class_rule(name: str) -> Rule:
    return lambda seen, heard: set(_of_class(seen, name))


def place_rule(direction: str) -> Rule:
    way = np.array(DIRECTIONS[direction])
    return lambda seen, heard: _highest(dict(enumerate(seen.paths[:, 0] @ way)), PLACE_MARGIN)


def size_rule(sign: int) -> Rule:
    return lambda seen, heard: _highest(
        dict(enumerate(sign * np.log(seen.areas))), float(np.log(SIZE_RATIO))
    )


def loudest_rule(seen: Seen, heard: Heard) -> set[int] | None:
    return _highest(_each(heard, lambda sound: sound.level_db), LEVEL_MARGIN_DB)


def longest_rule(seen: Seen, heard: Heard) -> set[int] | None:
    return _highest(_each(heard, lambda sound: sound.seconds), LENGTH_MARGIN_SECONDS)


def first_rule(seen: Seen, heard: Heard) -> set[int] | None:
    return _highest(_each(heard, lambda sound: -sound.onset_seconds), ONSET_MARGIN_SECONDS)


def last_rule(seen: Seen, heard: Heard) -> set[int] | None:
    return _highest(_each(heard, lambda sound: sound.onset_seconds), ONSET_MARGIN_SECONDS)


def sounds_rule(name: str, sounds: bool) -> Rule:
    return lambda seen, heard: {
        i for i in _of_class(seen, name) if (heard[i] is not None) == sounds
    }


def relation_rule(side: str, name: str) -> Rule:
    """The next thing on one side of the one of that name that sounds."""

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
    """Moves that way and never back, while the others hardly ever go that way."""
    way = np.array(DIRECTIONS[direction])

    def rule(seen: Seen, heard: Heard) -> set[int] | None:
        steps = np.diff(seen.paths @ way, axis=1)
        ahead, back = np.maximum(steps, 0).sum(1), np.maximum(-steps, 0).sum(1)
        moves = (ahead >= MOVED) & (back <= 0.02)
        clear = np.all(moves | (ahead <= UNMOVED))
        return set(np.flatnonzero(moves).tolist()) if clear else None

    return rule


def still_rule(seen: Seen, heard: Heard) -> set[int] | None:
    travel = np.linalg.norm(np.diff(seen.paths, axis=1), axis=2).sum(1)
    clear = np.all((travel <= 0.01) | (travel >= MOVED))
    return set(np.flatnonzero(travel <= 0.01).tolist()) if clear else None


def away_rule(seen: Seen, heard: Heard) -> set[int] | None:
    lowest = seen.visible.min(axis=1)
    outside = np.any((seen.paths < 0) | (seen.paths > 1), axis=(1, 2))
    leaves = (lowest <= GONE) & outside & (seen.visible[:, -1] >= PRESENT)
    clear = np.all(leaves | (lowest >= PRESENT))
    return set(np.flatnonzero(leaves).tolist()) if clear else None


def throughout_rule(seen: Seen, heard: Heard) -> set[int] | None:
    lowest = seen.visible.min(axis=1)
    clear = np.all((lowest >= PRESENT) | (lowest <= GONE))
    return set(np.flatnonzero(lowest >= PRESENT).tolist()) if clear else None
