"""Loose sentences for the mini RoBERTa: words of the mini language, not tied to any scene."""

import numpy as np

from mini.pictures import AREAS, COLOURS, SHAPES

FUNCTION_WORDS = (
    "a an and are as at away back be before behind below beside between both but by did do does "
    "during each end every for from had has have he her here his how in into is it its just less "
    "many more most near never next no none not now of off on once one only or other our out over "
    "she so some soon start still than that the their them then there these they this those "
    "through to two under until up very was we were what when where which while who whose why "
    "will with without you your person man woman dog cat car guitar piano playing speaking singing"
)
PLACES = ("on the left", "on the right", "at the top", "at the bottom", "in the middle")
DEEDS = (
    "making a sound", "making no sound", "making the loudest sound", "making the longest sound",
    "moving to the left", "moving to the right", "moving up", "moving down", "staying still",
    "that does not move", "that leaves the view and comes back", "that sounds first",
    "that sounds last", "that sounds longest", "appearing throughout the video",
    "that moves to the left", "that moves to the right", "that disappears", "that is silent",
)  # fmt: skip
RELATIONS = (
    "on the left of",
    "on the right of",
    "just to the left of",
    "next to",
    "above",
    "below",
)
QUALITIES = ("sounding", "silent", "loudest", "first", "last", "leftmost", "biggest", "smallest")


def loose_sentence(rng: np.random.Generator) -> str:
    """Compose a sentence of the language's words that has no rule for when it is true."""
    sentence = f"the {_thing(rng)}"
    if rng.uniform() < 0.6:
        sentence += f" {rng.choice((*DEEDS, *PLACES))}"
    if rng.uniform() < 0.3:
        sentence += f" {rng.choice(RELATIONS)} the {_thing(rng)}"
    return sentence


def _thing(rng: np.random.Generator) -> str:
    words = []
    for names, chance in ((QUALITIES, 0.3), (tuple(AREAS), 0.2), (tuple(COLOURS), 0.5)):
        if rng.uniform() < chance:
            words.append(str(rng.choice(names)))
    return " ".join([*words, str(rng.choice(SHAPES)) if rng.uniform() < 0.5 else "object"])
