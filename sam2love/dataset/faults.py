"""Faults of a data set, and how they are listed.

A fatal fault makes its row or clip unusable and stops the stage 'index'; the others are notes.
Nothing is repaired.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LISTED = 5


@dataclass(frozen=True)
class Fault:
    """Something wrong or unusual about a file or row.

    where: the file, or the row of metadata.csv (0-based, not counting the header).
    what: what was found, what was expected, what to do.
    kind: a plural noun; faults of one kind are listed together.
    fatal: whether it makes the file or row unusable.
    """

    where: str
    what: str
    kind: str
    fatal: bool = True

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listing(faults: Iterable[Fault], *, every: bool = False) -> list[str]:
    """Return a line per fault, fatal ones first; unless `every`, the first few and a count."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for fault in sorted(faults, key=lambda fault: not fault.fatal):
        label = "fatal" if fault.fatal else "note"
        kinds.setdefault((label, fault.kind), []).append(f"{label}: {fault}")
    lines = []
    for (label, kind), of_kind in kinds.items():
        shown = of_kind if every else of_kind[:LISTED]
        lines += shown
        if len(shown) < len(of_kind):
            lines.append(f"{label}: {len(of_kind)} {kind} in all; sam2love check --all lists them")
    return lines


def rows_named(rows: Iterable[int]) -> str:
    """Return a phrase that names rows of metadata.csv, at most the first five."""
    numbers = list(map(str, rows))
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return f"metadata.csv row{'s' * (len(numbers) > 1)} {', '.join(numbers[:LISTED])}{more}"
