"""Format experiments as Markdown tables: a row per setting, with mean and spread over seeds.

If settings differ in the parameters that a table of the paper varies, that table follows, with the
paper's figures next to ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from sam2love.compare.experiments import Commit, Experiment, read_experiments
from sam2love.compare.paper import TABLES, Row, Table
from sam2love.dataset.index import NULL_SPLIT, POSITIVE_SPLITS, SPLIT_NAMES
from sam2love.evaluation.metrics import MEASURES

SEED = "train.seed"
Params = tuple[tuple[str, str], ...]
LEGEND = (
    "J, F and J&F in percent by the benchmark's protocol (`refavs`); S on null rows, 0 is best; "
    "picked: right object, percent; n seeds: mean \N{PLUS-MINUS SIGN} sample standard deviation."
)


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in their seed: params without it, and the runs by seed."""

    params: dict[str, str]
    runs: dict[str, Experiment]

    def cell(self, *path: str, decimals: int = 1) -> str:
        """Return a figure of metrics.json, by its keys, as mean and spread over seeds.

        "-" if any seed lacks it: means over different seeds can't be compared.
        """
        found = [_at(run.metrics, path) for run in self.runs.values()]
        values = [value for value in found if value is not None]
        if len(values) < len(found):
            return "-"
        spread = f" \N{PLUS-MINUS SIGN} {stdev(values):.{decimals}f}" if len(values) > 1 else ""
        return f"{mean(values):.{decimals}f}{spread}"


def _at(tree: Any, path: Sequence[str]) -> float | None:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def compare_experiments(text: str) -> tuple[str, list[str]]:
    """Return the tables, and notes on experiments left out.

    Args:
        text: the output of `dvc exp show --json`.

    Raises:
        ValueError: the text is something else, or no experiment is finished.
    """
    commits, notes = read_experiments(text)
    parts = [LEGEND]
    for commit in commits:
        settings = _settings(commit, notes)
        parts += [f"## Experiments from {commit.name}", _overview(settings, commit)]
        parts += [part for table in TABLES for part in _paper_tables(table, settings, commit)]
    return "\n\n".join(parts), notes


def _settings(commit: Commit, notes: list[str]) -> list[Setting]:
    """Group runs by setting: the commit's own first, then in the order in which they ran."""
    settings: dict[Params, Setting] = {}
    for run in [*([commit.run] if commit.run else []), *commit.experiments]:
        params = {name: value for name, value in run.params.items() if name != SEED}
        setting = settings.setdefault(_sorted(params), Setting(params, {}))
        seed = run.params.get(SEED, "")
        other = setting.runs.get(seed)
        if other and other.metrics != run.metrics:
            notes.append(
                f"{run.name} and {other.name} have the same parameters but different figures (was "
                f"the code changed?); {other.name} is left out"
            )
        setting.runs[seed] = run
    return list(settings.values())


def _sorted(params: dict[str, str]) -> Params:
    return tuple(sorted(params.items()))


def _label(params: dict[str, str], base: dict[str, str]) -> str:
    """Return the parameters that differ from the commit's, as written after -S."""
    changed = []
    for name in sorted((params.keys() | base.keys()) - {SEED}):
        weights = name.removesuffix("digest") + "weights"
        redundant = name != weights and params.get(weights) != base.get(weights)
        if params.get(name) != base.get(name) and not redundant:
            changed.append(f"{name}={params.get(name, '(not set)')}")
    return ", ".join(changed)


def _overview(settings: list[Setting], commit: Commit) -> str:
    head = [
        "",
        "n",
        *(f"{split} {measure}" for split in SPLIT_NAMES.values() for measure in MEASURES),
    ]
    head += ["null S", *(f"picked {SPLIT_NAMES[split]}" for split in POSITIVE_SPLITS)]
    rows = []
    for setting in settings:
        row = [_label(setting.params, commit.params) or "the commit's parameters"]
        row += [str(len(setting.runs)), *_scores(setting, tuple(SPLIT_NAMES))]
        row += [setting.cell("refavs", NULL_SPLIT, "S", decimals=3)]
        rows.append(row + [setting.cell("picked", split) for split in POSITIVE_SPLITS])
    return markdown(head, rows)


def _scores(setting: Setting | None, splits: Sequence[str]) -> list[str]:
    paths = [("refavs", split, measure) for split in splits for measure in MEASURES]
    return [setting.cell(*path) if setting else "-" for path in paths]


# ---- the paper's tables --------------------------------------------------------------------------


def _paper_tables(table: Table, settings: list[Setting], commit: Commit) -> Iterator[str]:
    """Yield the paper's table for each group of settings that differ only in what it varies."""
    groups: dict[Params, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(_sorted(_fixed(setting.params, table)), []).append(setting)
    for fixed, group in groups.items():
        of_row = [(table.row_of(setting.params), setting) for setting in group]
        if len(group) == 1 or not any(row for row, _ in of_row):
            continue
        lines = []
        for row in table.rows:
            ours = [setting for found, setting in of_row if found is row]
            lines += [_line(row.label, setting, row, table) for setting in ours or (None,)]
        extra = [setting for found, setting in of_row if found is None]
        lines += [_line(_values(setting, table), setting, None, table) for setting in extra]
        yield f"### {table.title}\n\n{_conditions(dict(fixed), commit, table)}"
        yield markdown(_head(table), lines)


def _fixed(params: dict[str, str], table: Table) -> dict[str, str]:
    return {name: value for name, value in params.items() if name not in table.varied}


def _conditions(fixed: dict[str, str], commit: Commit, table: Table) -> str:
    """Return the sentence on the data set and the other parameters that differ."""
    ours = f"Ours on `{fixed.get('data.root', 'unknown data')}`"
    if others := _label(fixed, _fixed(commit.params, table)):
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
    """Label a setting for which the paper's table has no row."""
    names = [name for name in table.varied if not name.endswith(".digest")]
    return ", ".join(f"{name}={setting.params.get(name)}" for name in names)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that is legible as text: first column left-aligned, others right."""
    cells = [head, *([text.replace("|", r"\|") for text in row] for row in rows)]
    widths = [max(2, *(len(row[column]) for row in cells)) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        for row in (cells[0], rule, *cells[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
