"""Write the report: one self-contained HTML file with its pictures, sounds, curves and styles.

This folder's modules prepare the content; the template lays it out, and escapes everything that
comes from the data set.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from sam2love.dataset.index import NULL_SPLIT, Index, is_refavs, read_index
from sam2love.dataset.refavs import FRAMES
from sam2love.evaluation.masks import StoredMasks
from sam2love.report import rejection, results
from sam2love.report.charts import Chart, line_chart
from sam2love.report.examples import choose_examples
from sam2love.report.reliance import read_reliance
from sam2love.report.strips import film_strip
from sam2love.stores.store import FeatureStore
from sam2love.work import replacing

Settings = Mapping[str, Mapping[str, Any]]


def write_report(
    out: Path,
    *,
    root: Path,
    index_folder: Path,
    predictions: Path,
    scores: Path,
    model: Path,
    metrics: Path,
    diagnostics: Path,
    settings: Settings,
    frames: int = FRAMES,
) -> int:
    """Write out/index.html about a run.

    Args:
        root: the data set, for the frames, masks and sounds of the rows shown.
        predictions: folder with masks.zarr.
        scores: folder with expressions.csv.
        model: folder with loss.csv and validation.csv; without them there are no curves.
        metrics: metrics.json.
        diagnostics: diagnostics.csv; without it nothing is said about modalities.
        settings: the parameters shown, by section.
        frames: of every clip.

    Returns:
        The number of film strips.

    Raises:
        FileNotFoundError, ValueError: an input is missing or comes from another run; the message
            names the stage to run again.
    """
    index = read_index(index_folder)
    figures = results.read_metrics(metrics)
    scored = results.read_rows(scores / "expressions.csv", index)
    rows = scored[scored["split"].isin(results.ALL_SPLIT_NAMES)]
    store = FeatureStore.open(predictions / "masks.zarr")
    groups = _groups(rows, root, StoredMasks(store, frames=frames))
    html = render(
        about=about(index),
        tiles=results.tiles(figures),
        splits=results.splits_shown(figures),
        has_null=NULL_SPLIT in figures["refavs"],
        systems=results.systems(figures) + (results.paper() if is_refavs(root) else []),
        protocols=results.protocols(figures),
        families=results.families(rows),
        rejection=rejection.section(scored),
        reliance=read_reliance(diagnostics),
        charts=training_charts(model, settings),
        groups=groups,
        settings={name: flatten(section) for name, section in settings.items()},
    )
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "index.html") as file:
        file.write_text(html, encoding="utf-8", newline="\n")
    return sum(len(group["cases"]) for group in groups)


def render(**content: Any) -> str:
    """Return the page; everything but the template itself is escaped."""
    environment = Environment(
        loader=PackageLoader("sam2love.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(**content)


def about(index: Index) -> str:
    """Return a sentence on the clips and expressions of each split."""
    clips = index.clips["split"].value_counts()
    expressions = index.expressions["split"].value_counts()
    names = {"train": "training", "val": "validation", **results.ALL_SPLIT_NAMES}
    parts = [
        f"{clips.get(split, 0):,} clips with {expressions[split]:,} expressions ({name})"
        for split, name in names.items()
        if split in expressions
    ]
    return "; ".join(parts) + "."


def training_charts(model: Path, settings: Settings) -> list[Chart]:
    """Chart the loss, its terms, and J and right objects on val over the steps."""
    losses, validation = _read_curve(model / "loss.csv"), _read_curve(model / "validation.csv")
    change = settings.get("train", {}).get("grounding_steps", 0)
    markers = {"all frames from here": change} if 0 < change < len(losses) else {}
    terms = [str(name) for name in losses if name not in ("step", "frames", "loss")]

    def curves(table: pd.DataFrame, names: list[str]) -> dict:
        return {name: (table["step"], table[name]) for name in names if name in table}

    def on_val(name: str) -> dict:
        parts = {"all": name, "seen kinds": f"{name}_seen", "unseen kinds": f"{name}_unseen"}
        found = {label: column for label, column in parts.items() if column in validation}
        return {label: (validation["step"], validation[column]) for label, column in found.items()}

    charts = [
        line_chart("Loss", curves(losses, ["loss"]), markers=markers),
        line_chart("Its terms, unweighted", curves(losses, terms), markers=markers),
        line_chart("J on val, first frame, percent", on_val("J"), markers=markers),
        line_chart("Right object on val, first frame, percent", on_val("right"), markers=markers),
    ]
    return [chart for chart in charts if chart is not None]


def _read_curve(path: Path) -> pd.DataFrame:
    if not path.is_file() or not path.read_text().strip():
        return pd.DataFrame()
    return pd.read_csv(path)


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a section of parameters with dotted keys, values as in params.yaml."""
    flat: dict[str, str] = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat[prefix + name] = ", ".join(map(str, value))
        elif value is None:
            flat[prefix + name] = "null"
        else:
            flat[prefix + name] = str(value).lower() if isinstance(value, bool) else str(value)
    return flat


def _groups(rows: pd.DataFrame, root: Path, masks: StoredMasks) -> list[dict[str, Any]]:
    """Return the groups of rows shown, each with its cases."""
    groups = choose_examples(rows)
    shown = rows[rows["row"].isin([row for group in groups for row in group.rows])]
    bar = tqdm(shown.itertuples(), "film strips", len(shown), unit="row")
    cases = {entry.row: _case(entry, root, masks) for entry in bar}
    return [{**vars(group), "cases": [cases[row] for row in group.rows]} for group in groups]


def _case(entry: Any, root: Path, masks: StoredMasks) -> dict[str, Any]:
    """Return a row as shown: its film strip and its scores, None where they don't apply."""
    if fault := masks.fault(entry):
        raise ValueError(f"{fault}; run the stages 'propagate' and 'score' again")
    prediction = masks(entry)
    return {
        "row": entry.row,
        "key": entry.key,
        "expression": entry.exp,
        "split": results.ALL_SPLIT_NAMES[entry.split],
        "family": entry.family,
        "null": entry.null,
        "j": _number(entry.refavs_J),
        "f": _number(entry.refavs_F),
        "s": _number(entry.S),
        "picked": None if pd.isna(entry.picked) else bool(entry.picked),
        "presence": prediction.presence,
        "gated": prediction.gated,
        "strip": film_strip(root, entry, prediction),
    }


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
