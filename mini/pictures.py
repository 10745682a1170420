"""The visible mini world: coloured shapes that move, occlude each other, leave and return.

A picture is square. Lengths are fractions of its side, x to the right, y down, (0, 0) top left.
All randomness comes from the generator passed in, so a seed determines every pixel.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (200, 45, 40),
    "green": (50, 160, 65),
    "blue": (45, 85, 205),
    "yellow": (225, 200, 45),
    "purple": (150, 60, 175),
    "white": (240, 240, 240),
}
AREAS = {"small": (0.042, 0.058), "large": (0.085, 0.115)}  # fraction of the frame

Motion = Literal["static", "left", "right", "up", "down", "away"]
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Kind:
    """An object's looks, from which `sounds` derives its timbre."""

    shape: str
    colour: str
    size: str


@dataclass(frozen=True)
class Thing:
    """An object of a scene: its kind, exact size and shade, and its position in each frame."""

    kind: Kind
    radius: float
    """Radius of a disc of the same area."""
    rgb: np.ndarray
    path: np.ndarray
    """Centres, (frames, 2)."""
    angle: float
    motion: Motion


@dataclass(frozen=True)
class Scene:
    """Things over a background, ordered by depth, the nearest last."""

    things: tuple[Thing, ...]
    background: np.ndarray
    """(side, side, 3) float32, 0 to 255."""
    noise_seed: int


def sample_scene(
    rng: np.random.Generator,
    kinds: list[Kind],
    *,
    frames: int = 10,
    side: int = 128,
) -> Scene:
    """Place one thing of each kind, none overlapping at frame 0, and draw their motions."""
    areas = [rng.uniform(*AREAS[kind.size]) for kind in kinds]
    radii = [float(np.sqrt(area / np.pi)) for area in areas]
    starts = _separate_centres(rng, radii)
    motions = [_sample_motion(rng, start) for start in starts]
    things = tuple(
        Thing(
            kind=kind,
            radius=radius,
            rgb=np.clip(np.array(COLOURS[kind.colour]) + rng.normal(0, 9, 3), 0, 255),
            path=_path(rng, start, radius, motion, frames),
            angle=float(rng.uniform(-0.35, 0.35)),
            motion=motion,
        )
        for kind, radius, start, motion in zip(kinds, radii, starts, motions, strict=True)
    )
    return Scene(things, _background(rng, side), int(rng.integers(2**31)))


def render(scene: Scene, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Render one frame.

    Returns:
        The picture, (side, side, 3) uint8 RGB, and the visible part of each thing,
        (things, side, side) bool.
    """
    side = scene.background.shape[0]
    picture = scene.background.copy()
    masks = np.zeros((len(scene.things), side, side), dtype=bool)
    for index, thing in enumerate(scene.things):
        box, cover, shade = _cover(thing, frame, side)
        if cover.size == 0:
            continue
        colour = thing.rgb * shade[..., None]
        picture[box] += cover[..., None] * (colour - picture[box])
        solid = cover > 0.5
        for below in masks[:index]:
            below[box] &= ~solid
        masks[index][box] = solid
    noise = np.random.default_rng((scene.noise_seed, frame)).normal(0, 4, (side, side, 1))
    return np.clip(picture + noise, 0, 255).astype(np.uint8), masks


def _sample_motion(rng: np.random.Generator, start: np.ndarray) -> Motion:
    """Draw a motion: rest, leave and return, or drift in a direction that has room."""
    choice = rng.uniform()
    if choice < 0.25:
        return "static"
    if choice < 0.45:
        return "away"
    room = [
        name
        for name, way in DIRECTIONS.items()
        if 0.05 < (start + 0.35 * np.array(way)).min()  # noqa: SIM300
        and (start + 0.35 * np.array(way)).max() < 0.95
    ]
    return str(rng.choice(room))  # type: ignore[return-value]


def _separate_centres(rng: np.random.Generator, radii: list[float]) -> np.ndarray:
    """Draw centres, (things, 2), of discs inside the frame with a gap between them."""
    radius = np.array(radii)
    gap = radius[:, None] + radius[None] + 0.02
    while True:
        centres = rng.uniform(radius[:, None], 1 - radius[:, None], (len(radius), 2))
        distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        if np.all((distance > gap) | np.eye(len(radius), dtype=bool)):
            return centres


def _path(
    rng: np.random.Generator, start: np.ndarray, radius: float, motion: Motion, frames: int
) -> np.ndarray:
    """Return the centres, (frames, 2), of a thing that starts at `start`."""
    time = np.linspace(0, 1, frames)[:, None] if frames > 1 else np.zeros((1, 1))
    if motion == "static":
        return np.repeat(start[None], frames, axis=0)
    if motion == "away":  # out over the nearest edge and back again
        edges = np.array([start[0], 1 - start[0], start[1], 1 - start[1]])
        edge = int(np.argmin(edges))
        outside = start.copy()
        outside[edge // 2] = -radius - 0.03 if edge % 2 == 0 else 1 + radius + 0.03
        turn = rng.uniform(0.4, 0.6)
        leaving = np.clip(1.5 * (1 - np.abs(time - turn) / max(turn, 1 - turn)), 0, 1)
        return start + (outside - start) * (leaving - leaving[0])
    direction = np.array(DIRECTIONS[motion], dtype=float)
    drift = direction * rng.uniform(0.25, 0.45) + rng.normal(0, 0.03, 2)
    return start + drift * time


def _cover(
    thing: Thing, frame: int, side: int
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the box of pixels that a thing can touch, its coverage of each, and its shading."""
    x, y = thing.path[frame] * side
    radius = thing.radius * side
    reach = 1.7 * radius
    rows = slice(max(0, int(y - reach)), min(side, int(y + reach) + 2))
    columns = slice(max(0, int(x - reach)), min(side, int(x + reach) + 2))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0)), np.zeros((0, 0))
    v, u = np.meshgrid(
        np.arange(rows.start, rows.stop) + 0.5 - y,
        np.arange(columns.start, columns.stop) + 0.5 - x,
        indexing="ij",
    )
    shade = 1 - 0.18 * (u + v) / (2 * radius)  # lit from the top left
    cosine, sine = np.cos(thing.angle), np.sin(thing.angle)
    u, v = u * cosine + v * sine, v * cosine - u * sine
    distance = _signed_distance(thing.kind.shape, u / radius, v / radius) * radius
    return (rows, columns), np.clip(0.5 - distance, 0, 1), shade


def _signed_distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Approximate the signed distance to a shape of the unit disc's area, negative inside."""
    if shape == "circle":
        return np.hypot(u, v) - 1
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.886
    if shape == "triangle":  # equilateral, on its base
        inradius = 0.777
        return np.maximum(v - inradius, np.abs(u) * 0.866 - v * 0.5 - inradius)
    if shape == "cross":
        arm, half = 1.19, 0.39
        u, v = np.abs(u), np.abs(v)
        return np.minimum(np.maximum(u - arm, v - half), np.maximum(u - half, v - arm))
    if shape == "star":
        angle = np.arctan2(u, -v)
        ripple = np.abs((angle * 5 / (2 * np.pi) + 0.5) % 1 - 0.5) * 2  # 0 at the tips
        return (np.hypot(u, v) - (1.5 - 0.88 * ripple**0.7)) * 0.7
    raise ValueError(f"unknown shape {shape!r}, expected one of {SHAPES}")


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Mix two muted colours by a random pattern, (side, side, 3) float32."""
    base = rng.uniform(60, 150) + rng.normal(0, 14, 3)
    other = base + rng.choice([-1, 1]) * rng.uniform(15, 40) + rng.normal(0, 10, 3)
    v, u = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    turn = rng.uniform(0, np.pi)
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    pattern = rng.integers(4)
    if pattern == 0:
        mix = np.clip(along, 0, 1)
    elif pattern == 1:
        mix = (np.sin(along * rng.uniform(15, 60)) > 0).astype(float)
    elif pattern == 2:
        step = rng.uniform(4, 10)
        mix = (np.floor(along * step) + np.floor(across * step)) % 2
    else:
        waves = rng.normal(0, 1, (4, 2)) * rng.uniform(4, 14)
        phases = rng.uniform(0, 2 * np.pi, 4)
        mix = 0.5 + sum(
            np.sin(u * a + v * b + c) / 8 for (a, b), c in zip(waves, phases, strict=True)
        )
    return (base + (other - base) * np.asarray(mix)[..., None]).astype(np.float32)
