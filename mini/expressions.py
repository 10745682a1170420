"""The mini language: families of sentences, their wordings and the rules behind them.

`MEANINGS` is the whole language. A sentence is used for a clip only if its rule holds for exactly
one thing and, if it is about sound, only if text and picture do not give that thing away.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mini import rules
from mini.pictures import COLOURS, SHAPES
from mini.rules import Heard, Rule, Seen

GROUPS = {
    "vision": ("colour", "shape", "place", "size"),
    "audio": ("sounding", "silent", "loudest", "longest", "order"),
    "audio-vision": ("relation", "mixed"),
    "temporal": ("motion", "away", "throughout"),
}
FAMILIES = tuple(family for families in GROUPS.values() for family in families)
NEEDS_SOUND = GROUPS["audio"] + GROUPS["audio-vision"]
NULL_FAMILIES = (
    "sounding",
    "loudest",
    "longest",
    "order",
)  # for silence or foreign sound


@dataclass(frozen=True)
class Meaning:
    """A rule and the sentences that express it."""

    family: str
    wordings: tuple[str, ...]
    rule: Rule

    def target(self, seen: Seen, heard: Heard) -> int | None:
        """Return the only thing for which the rule holds, or None if that is not clear."""
        things = self.rule(seen, heard)
        return next(iter(things)) if things is not None and len(things) == 1 else None

    def deaf_guess(self, seen: Seen, heard: Heard) -> float:
        """Return the accuracy of the best guess from text and picture.

        Sounds are assigned to things at random, so without hearing them every permutation is
        equally likely. The best guess is the commonest target of those that allow the sentence.
        """
        orders = itertools.permutations(range(len(heard)))
        targets = [self.target(seen, tuple(heard[i] for i in order)) for order in orders]
        counts = np.bincount([target for target in targets if target is not None])
        return float(counts.max() / counts.sum())


def sentences() -> list[str]:
    """Return every sentence of the language in a fixed order."""
    return [wording for meaning in MEANINGS for wording in meaning.wordings]


def sample_sentence(rng: np.random.Generator) -> str:
    """Draw a sentence without a scene: a random family, then meaning, then wording."""
    family = rng.choice(FAMILIES)
    meanings = [meaning for meaning in MEANINGS if meaning.family == family]
    return str(rng.choice(meanings[rng.integers(len(meanings))].wordings))


def _noun(name: str) -> str:
    """Return the noun that follows 'the sounding'."""
    return f"{name} object" if name in COLOURS else name


def _visual() -> Iterator[Meaning]:
    for name in COLOURS:
        words = f"The {name} object.", f"The object in {name}."
        yield Meaning("colour", words, rules.class_rule(name))
    for name in SHAPES:
        words = f"The {name}.", f"The object shaped like a {name}."
        yield Meaning("shape", words, rules.class_rule(name))
    for way, where, most in (
        ("left", "on the left", "leftmost"),
        ("right", "on the right", "rightmost"),
        ("up", "at the top", "topmost"),
        ("down", "at the bottom", "lowest"),
    ):
        words = f"The object {where}.", f"The {most} object."
        yield Meaning("place", words, rules.place_rule(way))
    yield Meaning("size", ("The largest object.", "The biggest object."), rules.size_rule(1))
    yield Meaning("size", ("The smallest object.",), rules.size_rule(-1))


def _temporal() -> Iterator[Meaning]:
    for way, where in (
        ("left", "to the left"),
        ("right", "to the right"),
        ("up",) * 2,
        ("down",) * 2,
    ):
        yield Meaning("motion", (f"The object moving {where}.",), rules.moving_rule(way))
    words = "The object that does not move.", "The object staying still."
    yield Meaning("motion", words, rules.still_rule)
    sentence = "The object that leaves the view and comes back."
    yield Meaning("away", (sentence,), rules.away_rule)
    sentence = "The object appearing throughout the video."
    yield Meaning("throughout", (sentence,), rules.throughout_rule)


def _audible() -> Iterator[Meaning]:
    words = "The sounding object.", "The object making a sound."
    yield Meaning("sounding", words, rules.sounds_rule("object", True))
    words = "The silent object.", "The object making no sound."
    yield Meaning("silent", words, rules.sounds_rule("object", False))
    words = "The object making the loudest sound.", "The loudest object."
    yield Meaning("loudest", words, rules.loudest_rule)
    words = "The object making the longest sound.", "The object that sounds longest."
    yield Meaning("longest", words, rules.longest_rule)
    words = "The first object to make a sound.", "The object that sounds first."
    yield Meaning("order", words, rules.first_rule)
    words = "The last object to make a sound.", "The object that sounds last."
    yield Meaning("order", words, rules.last_rule)


def _audio_visual() -> Iterator[Meaning]:
    for name in (*SHAPES, *COLOURS):
        noun = _noun(name)
        words = f"The sounding {noun}.", f"The {noun} making a sound."
        yield Meaning("mixed", words, rules.sounds_rule(name, True))
        words = f"The silent {noun}.", f"The {noun} making no sound."
        yield Meaning("mixed", words, rules.sounds_rule(name, False))
    for side in ("left", "right"):
        for name in ("object", *SHAPES, *COLOURS):
            sentence = f"The object just to the {side} of the sounding {_noun(name)}."
            yield Meaning("relation", (sentence,), rules.relation_rule(side, name))


MEANINGS = (*_visual(), *_temporal(), *_audible(), *_audio_visual())
