"""Experiments as Markdown tables: a row a setting, its seeds as mean and spread.

Where settings differ by what a table of the paper varies, that table follows, with the paper's
figures beside ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from sam2love.compare.experiments import Commit, Experiment, read_experiments
from sam2love.compare.paper import TABLES, Row, Table
from sam2love.dataset.index import SPLIT_NAMES
from sam2love.evaluation.scoreboard import MEASURES

SEED = "train.seed"
PICKED = ("test_s", "test_u")
Params = tuple[tuple[str, str], ...]
KEY = (
    "J, F and J&F in percent by the benchmark's protocol (`refavs`); S on null rows, 0 is best; "
    "picked: the right object, percent. n seeds: mean \N{PLUS-MINUS SIGN} sample standard "
    "deviation."
)


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone: params without it, and the runs by seed."""

    params: dict[str, str]
    runs: dict[str, Experiment]

    def cell(self, *path: str, decimals: int = 1) -> str:
        """A figure of metrics.json by its keys: mean and spread over seeds; "-" if it isn't there.

        A seed without the figure leaves all without: means of other seeds can't be compared.
        """
        values = [_at(run.metrics, path) for run in self.runs.values()]
        told = [value for value in values if value is not None]
        if len(told) < len(values):
            return "-"
        spread = f" \N{PLUS-MINUS SIGN} {stdev(told):.{decimals}f}" if len(told) > 1 else ""
        return f"{mean(told):.{decimals}f}{spread}"


def _at(tree: Any, path: Sequence[str]) -> float | None:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def compare_experiments(text: str) -> tuple[str, list[str]]:
    """The tables, and notes on what isn't in them.

    Args:
        text: what `dvc exp show --json` prints.

    Raises:
        ValueError: it is something else, or no experiment is finished.
    """
    commits, notes = read_experiments(text)
    parts = [KEY]
    for commit in commits:
        settings = _settings(commit, notes)
        parts += [f"## Experiments from {commit.name}", _overview(settings, commit)]
        parts += [part for table in TABLES for part in _as_the_paper(table, settings, commit)]
    return "\n\n".join(parts), notes


def _settings(commit: Commit, notes: list[str]) -> list[Setting]:
    """The commit's own run first, then in the order in which they were run."""
    settings: dict[Params, Setting] = {}
    for run in [*([commit.run] if commit.run else []), *commit.experiments]:
        params = {name: value for name, value in run.params.items() if name != SEED}
        setting = settings.setdefault(_sorted(params), Setting(params, {}))
        seed = run.params.get(SEED, "")
        other = setting.runs.get(seed)
        if other and other.metrics != run.metrics:
            notes.append(
                f"{run.name} has other figures than {other.name} by the same parameters (was the "
                f"code changed?); {other.name} is left out"
            )
        setting.runs[seed] = run
    return list(settings.values())


def _sorted(params: dict[str, str]) -> Params:
    return tuple(sorted(params.items()))


def _label(params: dict[str, str], base: dict[str, str]) -> str:
    """What differs from the commit's parameters, as written behind -S."""
    told = []
    for name in sorted((params.keys() | base.keys()) - {SEED}):
        weights = name.removesuffix("digest") + "weights"  # a digest says no more than they do
        told_by_weights = name != weights and params.get(weights) != base.get(weights)
        if params.get(name) != base.get(name) and not told_by_weights:
            told.append(f"{name}={params.get(name, '(not set)')}")
    return ", ".join(told)


def _overview(settings: list[Setting], commit: Commit) -> str:
    head = [
        "",
        "n",
        *(f"{split} {measure}" for split in SPLIT_NAMES.values() for measure in MEASURES),
    ]
    head += ["null S", *(f"picked {SPLIT_NAMES[split]}" for split in PICKED)]
    rows = []
    for setting in settings:
        row = [_label(setting.params, commit.params) or "the commit's parameters"]
        row += [str(len(setting.runs)), *_scores(setting, tuple(SPLIT_NAMES))]
        row += [setting.cell("refavs", "test_n", "S", decimals=3)]
        rows.append(row + [setting.cell("picked", split) for split in PICKED])
    return markdown(head, rows)


def _scores(setting: Setting | None, splits: Sequence[str]) -> list[str]:
    paths = [("refavs", split, measure) for split in splits for measure in MEASURES]
    return [setting.cell(*path) if setting else "-" for path in paths]


# ---- beside the paper ---------------------------------------------------------------------------


def _as_the_paper(table: Table, settings: list[Setting], commit: Commit) -> Iterator[str]:
    """The paper's table, once for every set of settings that differ by its knobs alone."""
    families: dict[Params, list[Setting]] = {}
    for setting in settings:
        others = {name: value for name, value in setting.params.items() if name not in table.knobs}
        families.setdefault(_sorted(others), []).append(setting)
    for rest, family in families.items():
        of_row = [(table.row_of(setting.params), setting) for setting in family]
        if len(family) == 1 or not any(row for row, _ in of_row):
            continue
        lines = []
        for row in table.rows:
            ours = [setting for found, setting in of_row if found is row]
            lines += [_line(row.label, setting, row, table) for setting in ours or (None,)]
        more = [setting for found, setting in of_row if found is None]
        lines += [_line(_values(setting, table), setting, None, table) for setting in more]
        yield f"### {table.title}\n\n{_where(dict(rest), commit, table)}"
        yield markdown(_head(table), lines)


def _where(rest: dict[str, str], commit: Commit, table: Table) -> str:
    """What data the figures are of, and what else is set."""
    base = {name: value for name, value in commit.params.items() if name not in table.knobs}
    ours = f"Ours on `{rest.get('data.root', 'unknown data')}`"
    if others := _label(rest, base):
        ours += f" with {others}"
    return ours + ("; the paper's figures are on Ref-AVS." if table.has_figures else ".")


def _head(table: Table) -> list[str]:
    columns = [f"{SPLIT_NAMES[split]} {measure}" for split in table.splits for measure in MEASURES]
    return ["", "n", *columns, *(f"paper's {column}" for column in columns if table.has_figures)]


def _line(label: str, setting: Setting | None, row: Row | None, table: Table) -> list[str]:
    ours = _scores(setting, table.splits)
    paper = [f"{figure:.1f}" for figure in row.figures] if row else ["-"] * len(ours)
    runs = str(len(setting.runs)) if setting else "-"
    return [label, runs, *ours, *(paper if table.has_figures else [])]


def _values(setting: Setting, table: Table) -> str:
    """What the paper's table has no row for."""
    told = [knob for knob in table.knobs if not knob.endswith(".digest")]
    return ", ".join(f"{knob}={setting.params.get(knob)}" for knob in told)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, also legible as text: the first column to the left, others right."""
    cells = [head, *([text.replace("|", r"\|") for text in row] for row in rows)]
    widths = [max(2, *(len(row[place]) for row in cells)) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        for row in (cells[0], rule, *cells[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
