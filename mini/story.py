"""Draw the content of a mini clip: its things, their sounds, and the expressions that name them.

Which thing sounds when and how loud is drawn independently of everything visible, so pictures
reveal only the timbre of a sound. All randomness comes from the generator passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mini.expressions import FAMILIES, GROUPS, MEANINGS, NEEDS_SOUND, NULL_FAMILIES, Meaning
from mini.pictures import AREAS, COLOURS, SHAPES, Kind, Scene, render, sample_scene
from mini.rules import (
    LENGTH_MARGIN_SECONDS,
    LEVEL_MARGIN_DB,
    ONSET_MARGIN_SECONDS,
    Heard,
    Seen,
)
from mini.sounds import SAMPLE_RATE_HZ, Sound, synthesize

FRAMES = 10
CLIP_SECONDS = 10
Part = Literal["seen", "val", "test_u"]
"""Kinds of train, val's seen clips and test_s; kinds of val's unseen clips; kinds of test_u."""
HELD_OUT = {  # 10 of 30 combinations; every shape and colour is seen in others
    "val": frozenset(
        {
            ("circle", "red"),
            ("circle", "blue"),
            ("triangle", "blue"),
            ("triangle", "purple"),
            ("cross", "purple"),
        }
    ),
    "test_u": frozenset(
        {
            ("square", "green"),
            ("square", "yellow"),
            ("star", "yellow"),
            ("star", "white"),
            ("cross", "red"),
        }
    ),
}
THINGS = {2: 0.2, 3: 0.5, 4: 0.3}  # probability of each number of things
SOUNDING = {  # by number of things, the probabilities that 0, 1, 2 or 3 of them sound
    2: (0.03, 0.52, 0.45),
    3: (0.03, 0.32, 0.50, 0.15),
    4: (0.03, 0.30, 0.35, 0.32),
}
LEAVING = 0.3  # probability of looking for a scene that one thing leaves, or all but one
LEAVING_DRAWS = 10
KINSHIP = 0.6  # probability that the first two things share their colour or shape
LONGEST_SECONDS, LATEST_SECONDS = 5.0, 5.0  # sum to a clip: onset and length stay independent
SHORTEST_SECONDS = 1.5
QUIETEST_DB, LOUDEST_DB = -28.0, -11.0
HIGHEST_PEAK = 0.95
DEAF_GUESS = 0.5  # highest accuracy without sound of an expression that needs sound
GROUP_WEIGHTS = {"vision": 0.24, "sound": 0.62, "temporal": 0.14}
GROUP_FAMILIES = GROUPS | {"sound": NEEDS_SOUND}
FAMILY_WEIGHTS = {"relation": 3.0, "sounding": 1.5, "silent": 1.5, "away": 4.0, "throughout": 6.0}
EXPRESSIONS = (5, 6)  # per clip, if that many meanings apply
NULL_EXPRESSIONS = 4
ENTRANCES = range(2, 7)  # the frames, one of which is the first to show a late thing
REACH = 1.6  # of any shape from its centre, in radii
OF_FRAME_0 = ("place", "relation")  # families that say where a thing is at first
ABSENT_FAMILIES = ("colour", "shape", "mixed")  # name the kind of thing that a clip may lack


@dataclass(frozen=True)
class Story:
    """A clip: what is seen, what is heard, and which expression names which thing."""

    scene: Scene
    pictures: np.ndarray
    """(frames, side, side, 3) uint8 RGB."""
    masks: np.ndarray
    """The visible part of each thing, (frames, things, side, side) bool."""
    heard: Heard
    expressions: tuple[tuple[Meaning, str, int], ...]
    """Meaning, sentence, and the thing for which it holds."""


def sample_story(rng: np.random.Generator, *, part: Part, side: int, late: bool = False) -> Story:
    """Draw a clip whose kinds are all of one part.

    Args:
        side: in pixels.
        late: one thing is not there at first and comes into view later.
    """
    things = int(rng.choice(list(THINGS), p=list(THINGS.values())))
    scene = _sample_scene(rng, sample_kinds(rng, things, part), side)
    if late:
        scene = _delay_a_thing(rng, scene)
    frames = [render(scene, frame) for frame in range(FRAMES)]
    masks = np.stack([masks for _, masks in frames])
    sounding = int(rng.choice(len(SOUNDING[things]), p=SOUNDING[things]))
    heard = sample_sounds(rng, things, sounding)
    # A late thing comes once and doesn't come back.
    unclear = (*OF_FRAME_0, "away") if late else ()
    families = [family for family in FAMILIES if family not in unclear]
    expressions = sample_expressions(rng, Seen.of(scene, masks), heard, families=families)
    return Story(scene, np.stack([picture for picture, _ in frames]), masks, heard, expressions)


def _sample_scene(rng: np.random.Generator, kinds: list[Kind], side: int) -> Scene:
    """Draw a scene; some are redrawn so that one thing leaves, or all but one."""
    wanted = (1, len(kinds) - 1) if rng.uniform() < LEAVING else range(len(kinds) + 1)
    for _ in range(LEAVING_DRAWS):
        scene = sample_scene(rng, kinds, frames=FRAMES, side=side)
        leaving = sum(
            bool(np.any((thing.path < -thing.radius) | (thing.path > 1 + thing.radius)))
            for thing in scene.things
        )
        if leaving in wanted:
            break
    return scene


def _delay_a_thing(rng: np.random.Generator, scene: Scene) -> Scene:
    """Let one thing come in over the nearest edge, within two frames, and rest where it started."""
    things = list(scene.things)
    late = int(rng.integers(len(things)))
    rest, radius = things[late].path[0], things[late].radius
    edges = np.array([rest[0], 1 - rest[0], rest[1], 1 - rest[1]])
    edge = int(np.argmin(edges))
    outside = rest.copy()
    outside[edge // 2] = -REACH * radius if edge % 2 == 0 else 1 + REACH * radius
    arrived = np.clip((np.arange(FRAMES) - int(rng.choice(ENTRANCES)) + 1) / 2, 0, 1)[:, None]
    path = outside + (rest - outside) * arrived
    things[late] = replace(things[late], path=path)
    return replace(scene, things=tuple(things))


def part_of(shape: str, colour: str) -> Part:
    """Return the part in which a combination of shape and colour occurs."""
    for part in ("val", "test_u"):
        if (shape, colour) in HELD_OUT[part]:
            return part  # type: ignore[return-value]
    return "seen"


def kinds_of(part: Part) -> list[Kind]:
    """List the kinds of a part, in both sizes."""
    return [
        Kind(shape, colour, size)
        for shape in SHAPES
        for colour in COLOURS
        for size in AREAS
        if part_of(shape, colour) == part
    ]


def sample_kinds(rng: np.random.Generator, things: int, part: Part) -> list[Kind]:
    """Draw kinds in random order, no two of which share both shape and colour."""
    pool = kinds_of(part)
    kinds = [pool[rng.integers(len(pool))]]
    while len(kinds) < things:
        pool = [kind for kind in pool if all(_likeness(kind, other) < 2 for other in kinds)]
        kin = [kind for kind in pool if _likeness(kind, kinds[0]) == 1]
        candidates = kin if len(kinds) == 1 and kin and rng.uniform() < KINSHIP else pool
        kinds.append(candidates[rng.integers(len(candidates))])
    return [kinds[i] for i in rng.permutation(things)]


def foreign_kinds(rng: np.random.Generator, kinds: list[Kind], count: int) -> list[Kind]:
    """Draw up to `count` kinds that share neither shape nor colour with any of those given."""
    pool = [
        kind for kind in kinds_of("seen") if all(_likeness(kind, other) == 0 for other in kinds)
    ]
    return [pool[i] for i in rng.permutation(len(pool))[:count]]


def sample_sounds(rng: np.random.Generator, things: int, sounding: int) -> Heard:
    """Draw sounds for some of the things, with one clearly loudest, longest, first and last."""
    steps = rng.uniform(LEVEL_MARGIN_DB, LEVEL_MARGIN_DB + 1.5, max(0, sounding - 1)).cumsum()
    top = rng.uniform(QUIETEST_DB + steps.max(initial=0), LOUDEST_DB)
    levels = rng.permutation(top - np.insert(steps, 0, 0)[:sounding])
    while True:
        onsets = rng.uniform(0, LATEST_SECONDS, sounding)
        if sounding < 2 or np.diff(np.sort(onsets)).min() >= ONSET_MARGIN_SECONDS:
            break
    while True:
        lengths = rng.uniform(SHORTEST_SECONDS, LONGEST_SECONDS, sounding)
        if sounding < 2 or np.diff(np.sort(lengths))[-1] >= LENGTH_MARGIN_SECONDS:
            break
    heard: list[Sound | None] = [None] * things
    rows = np.stack([onsets, lengths, levels], axis=1).tolist()
    for thing, row in zip(rng.permutation(things), rows, strict=False):
        heard[thing] = Sound(*row)
    return tuple(heard)


def mix(
    rng: np.random.Generator, kinds: list[Kind], heard: Heard, *, noise_db: float
) -> np.ndarray:
    """Mix all sounds over a low noise, (samples,) int16, attenuated if it would clip."""
    samples = CLIP_SECONDS * SAMPLE_RATE_HZ
    wave = rng.normal(0, 10 ** (noise_db / 20), samples)
    for kind, sound in zip(kinds, heard, strict=True):
        if sound is not None:
            wave += synthesize(kind, sound, rng, seconds=CLIP_SECONDS)
    wave *= min(1, HIGHEST_PEAK / np.abs(wave).max())
    return np.round(wave * 32767).astype(np.int16)


def sample_expressions(
    rng: np.random.Generator, seen: Seen, heard: Heard, *, families: Sequence[str] = FAMILIES
) -> tuple[tuple[Meaning, str, int], ...]:
    """Draw a clip's expressions, no meaning twice, by the weights of groups and then families."""
    targets = {
        meaning: meaning.target(seen, heard) for meaning in MEANINGS if meaning.family in families
    }
    left = {
        meaning: target
        for meaning, target in targets.items()
        if target is not None
        and (meaning.family not in NEEDS_SOUND or meaning.deaf_guess(seen, heard) <= DEAF_GUESS)
    }
    expressions = []
    for _ in range(min(int(rng.choice(EXPRESSIONS)), len(left))):
        available = {meaning.family for meaning in left}
        weights = {
            name: weight
            for name, weight in GROUP_WEIGHTS.items()
            if available.intersection(GROUP_FAMILIES[name])
        }
        group = _draw(rng, weights)
        names = [name for name in GROUP_FAMILIES[group] if name in available]
        family = _draw(rng, {name: FAMILY_WEIGHTS.get(name, 1.0) for name in names})
        meanings = [meaning for meaning in left if meaning.family == family]
        meaning = meanings[rng.integers(len(meanings))]
        expressions.append((meaning, str(rng.choice(meaning.wordings)), left.pop(meaning)))
    return tuple(expressions)


def sample_null_sentences(rng: np.random.Generator) -> list[str]:
    """Draw sentences for a silent or foreign-sounding clip from those that other clips use."""
    meanings = [meaning for meaning in MEANINGS if meaning.family in NULL_FAMILIES]
    chosen = rng.permutation(len(meanings))[:NULL_EXPRESSIONS]
    return [str(rng.choice(meanings[i].wordings)) for i in chosen]


def sample_absent_sentences(rng: np.random.Generator, clip: Story) -> list[str]:
    """Draw sentences for a clip about things of a colour or shape that none of its things has."""
    seen = Seen.of(clip.scene, clip.masks)
    nothing_sounds = (None,) * len(seen.kinds)
    all_sound = (Sound(onset_seconds=0, seconds=1, level_db=0),) * len(seen.kinds)
    meanings = [
        meaning
        for meaning in MEANINGS
        if meaning.family in ABSENT_FAMILIES
        and meaning.rule(seen, nothing_sounds) == meaning.rule(seen, all_sound) == set()
    ]
    chosen = rng.permutation(len(meanings))[:NULL_EXPRESSIONS]
    return [str(rng.choice(meanings[i].wordings)) for i in chosen]


def _likeness(one: Kind, other: Kind) -> int:
    return (one.shape == other.shape) + (one.colour == other.colour)


def _draw(rng: np.random.Generator, weights: dict[str, float]) -> str:
    values = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=values / values.sum()))
