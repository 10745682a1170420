import re

import numpy as np
import pytest

from mini.expressions import FAMILIES, MEANINGS, NEEDS_SOUND, Meaning, sample_sentence, sentences
from mini.pictures import COLOURS, SHAPES, Kind
from mini.rules import Seen
from mini.sounds import SAMPLE_RATE_HZ, Sound, synthesize
from mini.story import Story, sample_story

SIDE = 128
PARTS = ("seen", "seen", "val", "test_u")


def _meaning(sentence: str) -> Meaning:
    return next(meaning for meaning in MEANINGS if sentence in meaning.wordings)


def _seen(*things: tuple[str, float]) -> Seen:
    """Return things at rest in a row, from pairs of 'colour shape' and x."""
    kinds = tuple(Kind(name.split()[1], name.split()[0], "small") for name, _ in things)
    paths = np.array([[[x, 0.5]] * 10 for _, x in things])
    return Seen(kinds, paths, np.full(len(things), 0.05), np.ones((len(things), 10)))


SOUND = Sound(onset_seconds=1, seconds=3, level_db=-10)
TWO_STARS = _seen(("red circle", 0.2), ("red star", 0.5), ("blue star", 0.8))


def test_every_sentence_has_one_meaning():
    assert len(set(sentences())) == len(sentences())
    assert {meaning.family for meaning in MEANINGS} == set(FAMILIES)


def test_sampled_sentences_are_of_the_language_and_depend_on_the_seed():
    drawn = [sample_sentence(np.random.default_rng(seed)) for seed in range(50)]
    assert set(drawn) <= set(sentences())
    assert len(set(drawn)) > 15
    assert drawn == [sample_sentence(np.random.default_rng(seed)) for seed in range(50)]


@pytest.mark.parametrize(
    ("sentence", "heard", "target"),
    [
        ("The sounding star.", (None, SOUND, None), 1),
        ("The sounding star.", (None, SOUND, SOUND), None),
        ("The silent star.", (None, SOUND, None), 2),
        ("The silent red object.", (SOUND, None, None), 1),
        ("The sounding object.", (SOUND, SOUND, None), None),
        ("The silent object.", (SOUND, SOUND, None), 2),
        ("The loudest object.", (SOUND, Sound(1, 3, -15.9), None), None),
        ("The loudest object.", (SOUND, Sound(1, 3, -16.1), None), 0),
        ("The loudest object.", (SOUND, None, None), None),
        ("The object that sounds longest.", (SOUND, Sound(1, 5.1, -10), None), 1),
        ("The object that sounds longest.", (SOUND, Sound(1, 4.9, -10), None), None),
        ("The object that sounds first.", (SOUND, Sound(2.6, 3, -10), None), 0),
        ("The object that sounds last.", (SOUND, Sound(2.6, 3, -10), None), 1),
        ("The object that sounds last.", (SOUND, Sound(2.4, 3, -10), None), None),
        ("The object just to the left of the sounding star.", (None, SOUND, None), 0),
        ("The object just to the left of the sounding star.", (None, None, SOUND), 1),
        ("The object just to the left of the sounding star.", (SOUND, SOUND, SOUND), None),
        ("The object just to the right of the sounding star.", (None, None, SOUND), None),
    ],
)
def test_rules_of_sound(sentence, heard, target):
    assert _meaning(sentence).target(TWO_STARS, heard) == target


@pytest.mark.parametrize(
    ("sentence", "target"),
    [
        ("The circle.", 0),
        ("The star.", None),
        ("The blue object.", 2),
        ("The object in red.", None),
        ("The leftmost object.", 0),
        ("The object on the right.", 2),
        ("The topmost object.", None),
        ("The largest object.", None),
    ],
)
def test_rules_of_sight(sentence, target):
    assert _meaning(sentence).target(TWO_STARS, (None,) * 3) == target


def test_close_neighbours_make_a_place_ambiguous():
    seen = _seen(("red circle", 0.2), ("red star", 0.3), ("blue star", 0.8))
    assert _meaning("The leftmost object.").target(seen, (None,) * 3) is None


def test_deaf_guess_measures_what_text_and_picture_give_away():
    one_star = _seen(("red circle", 0.2), ("red square", 0.5), ("blue star", 0.8))
    heard = (None, None, SOUND)
    assert _meaning("The sounding star.").deaf_guess(one_star, heard) == 1
    assert _meaning("The sounding star.").deaf_guess(TWO_STARS, heard) == 0.5
    assert _meaning("The sounding object.").deaf_guess(TWO_STARS, heard) == pytest.approx(1 / 3)
    left = _meaning("The object just to the left of the sounding star.")
    assert left.deaf_guess(TWO_STARS, heard) == 0.5
    assert left.deaf_guess(one_star, heard) == 1


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return [
        sample_story(np.random.default_rng((7, number)), part=PARTS[number % 4], side=SIDE)
        for number in range(60)
    ]


def test_expressions_are_true_of_their_target_only(stories):
    """Judged from pixels and waves, by other code than the rules'."""
    seen_families = set()
    for clip in stories:
        facts = _measure(clip)
        for meaning, sentence, target in clip.expressions:
            assert _true_of(sentence, facts) == {target}, sentence
            seen_families.add(meaning.family)
    assert seen_families == set(FAMILIES)


def test_without_hearing_one_can_only_guess(stories):
    guesses = [
        meaning.deaf_guess(Seen.of(clip.scene, clip.masks), clip.heard)
        for clip in stories
        for meaning, _, _ in clip.expressions
        if meaning.family in NEEDS_SOUND
    ]
    assert len(guesses) > 100
    assert max(guesses) <= 0.5


def test_sound_does_not_give_away_visual_targets(stories):
    """Targets of visual expressions sound about as often as other things."""
    vision = [
        (clip.heard[target] is not None, np.mean([sound is not None for sound in clip.heard]))
        for clip in stories
        for meaning, _, target in clip.expressions
        if meaning.family not in NEEDS_SOUND
    ]
    targets, all_things = np.mean(vision, axis=0)
    assert abs(targets - all_things) < 0.15


def _measure(clip: Story) -> dict[str, np.ndarray]:
    """Return what an attentive viewer and listener observes, a value for each thing."""
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    palette = np.array(list(COLOURS.values()))
    tints = [clip.pictures[0][mask].mean(axis=0) for mask in clip.masks[0]]
    waves = [
        np.zeros(1) if sound is None else synthesize(thing.kind, sound, rng, seconds=10)
        for thing, sound in zip(clip.scene.things, clip.heard, strict=True)
    ]
    spans = [np.flatnonzero(np.abs(wave) > 1e-5) for wave in waves]
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in clip.masks[0]]) / SIDE
    paths = np.stack([thing.path for thing in clip.scene.things])
    return {
        "colour": np.array([names[np.abs(palette - tint).sum(1).argmin()] for tint in tints]),
        "shape": np.array([thing.kind.shape for thing in clip.scene.things]),
        "x": centres[:, 1],
        "y": centres[:, 0],
        "area": clip.masks[0].mean(axis=(1, 2)),
        "pixels": clip.masks.sum(axis=(2, 3)).T,
        "moved": paths[:, -1] - paths[:, 0],
        "span": np.ptp(paths, axis=1).max(axis=1),
        "sounds": np.array([len(span) > 0 for span in spans]),
        "onset": np.array([span[0] if len(span) else np.nan for span in spans]) / SAMPLE_RATE_HZ,
        "length": np.array([np.ptp(span) if len(span) else np.nan for span in spans]),
        "power": np.array(
            [
                np.mean(wave[span] ** 2) if len(span) else np.nan
                for wave, span in zip(waves, spans, strict=True)
            ]
        ),
    }


EXTREMES = {  # pattern: (value, sign, margin)
    r"leftmost|on the left": ("x", -1, 0.05),
    r"rightmost|on the right": ("x", 1, 0.05),
    r"topmost|at the top": ("y", -1, 0.05),
    r"lowest|at the bottom": ("y", 1, 0.05),
    r"largest|biggest": ("area", 1, 0.01),
    r"smallest": ("area", -1, 0.01),
    r"loudest": ("power", 1, 0),
    r"longest": ("length", 1, 1.9 * SAMPLE_RATE_HZ),
    r"[Ff]irst": ("onset", -1, 1.4),
    r"[Ll]ast": ("onset", 1, 1.4),
}


def _true_of(sentence: str, facts: dict[str, np.ndarray]) -> set[int]:
    words = set(re.findall(r"[a-z]+", sentence))
    if "just" in words:
        return _beside(sentence, facts)
    for pattern, (value, sign, margin) in EXTREMES.items():
        if re.search(pattern, sentence):
            ranked = np.sort(sign * facts[value][~np.isnan(facts[value])])
            assert ranked[-1] - ranked[-2] > margin, sentence
            return {int(np.nanargmax(sign * facts[value]))}
    return set(np.flatnonzero(_holds(sentence, words, facts)).tolist())


def _holds(sentence: str, words: set[str], facts: dict[str, np.ndarray]) -> np.ndarray:
    seen = facts["pixels"] > 0
    if "leaves" in words:
        return ~seen.all(axis=1) & seen[:, -1]
    if "throughout" in words:
        return seen.all(axis=1)
    if "move" in words or "still" in words:
        return facts["span"] < 0.02
    if "moving" in words:
        axis = 0 if words & {"left", "right"} else 1
        sign = -1 if words & {"left", "up"} else 1
        return sign * facts["moved"][:, axis] > 0.15
    holds = np.ones(len(facts["x"]), bool)
    for name, value in [(name, "colour") for name in COLOURS] + [
        (name, "shape") for name in SHAPES
    ]:
        if name in words:
            holds &= facts[value] == name
    if "silent" in words or "making no sound" in sentence:
        holds &= ~facts["sounds"]
    elif "sounding" in words or "making a sound" in sentence:
        holds &= facts["sounds"]
    return holds


def _beside(sentence: str, facts: dict[str, np.ndarray]) -> set[int]:
    """Resolve 'The object just to the <side> of <some one thing>.'"""
    side, phrase = re.fullmatch(r"The object just to the (\w+) of (the .*)", sentence).groups()  # type: ignore[union-attr]
    (here,) = np.flatnonzero(_holds(phrase, set(re.findall(r"[a-z]+", phrase)), facts))
    ahead = (facts["x"] - facts["x"][here]) * (1 if side == "right" else -1)
    return {int(np.where(ahead > 0.05, ahead, np.inf).argmin())}
