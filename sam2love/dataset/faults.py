"""Faults of a data set, and how they are told.

A fault is fatal if it keeps its row or clip from being used: the stage `index` stops at it. Others
are notes. Nothing is mended.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LISTED = 5


@dataclass(frozen=True)
class Fault:
    """What is wrong or odd about a file or row.

    where: the file, or row of metadata.csv (0-based, the header not counted).
    what: what was found, what was expected, what to do.
    kind: in plural; faults of a kind are listed together.
    fatal: whether it keeps what it names from being used.
    """

    where: str
    what: str
    kind: str
    fatal: bool = True

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listing(faults: Iterable[Fault], *, every: bool = False) -> list[str]:
    """A line for each fault, fatal ones first; of many of a kind the first few and a count."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for fault in sorted(faults, key=lambda fault: not fault.fatal):
        label = "fatal" if fault.fatal else "note"
        kinds.setdefault((label, fault.kind), []).append(f"{label}: {fault}")
    lines = []
    for (label, kind), alike in kinds.items():
        shown = alike if every else alike[:LISTED]
        lines += shown
        if len(shown) < len(alike):
            lines.append(f"{label}: {len(alike)} {kind} in all; sam2love check --all lists them")
    return lines


def rows_named(rows: Iterable[int]) -> str:
    """Rows of metadata.csv, the first few of many."""
    numbers = list(map(str, rows))
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return f"metadata.csv row{'s' * (len(numbers) > 1)} {', '.join(numbers[:LISTED])}{more}"
