"""metrics.json as a person reads it: a line a system, what was picked, val, then families."""

from sam2love.dataset.index import SPLIT_NAMES
from sam2love.evaluation.summary import Tree

MEASURES = ("J", "F", "J&F")
WIDTH = 7
LABEL = 18


def scoreboard(metrics: Tree, *, name: str) -> str:
    """The table to print.

    Args:
        metrics: what `summarise` returns.
        name: of the system whose masks were scored.
    """
    parts = [_systems(metrics, name), _means(metrics), _picked(metrics), _val(metrics)]
    parts.append(_families(metrics))
    return "\n\n".join(part for part in parts if part)


def _systems(metrics: Tree, name: str) -> str:
    head = "".join(f"{split:>{3 * WIDTH}}" for split in SPLIT_NAMES.values())
    measures = "".join(f"{measure:>{WIDTH}}" for measure in MEASURES * len(SPLIT_NAMES))
    lines = [f"{'refavs':<{LABEL}}{head}{'null':>{WIDTH + 1}}", f"{'':<{LABEL}}{measures}{'S':>8}"]
    systems = {name: metrics["refavs"]}
    systems |= {other: tree["refavs"] for other, tree in metrics["baselines"].items()}
    systems |= {f"{name}, {other}": metrics[other] for other in ("frame", "original", "davis")}
    for label, tree in systems.items():
        cells = [_cell(tree.get(split, {}).get(m), 1) for split in SPLIT_NAMES for m in MEASURES]
        null = _cell(tree.get("test_n", {}).get("S"), 3, WIDTH + 1)
        lines.append(f"{label:<{LABEL}}{''.join(cells)}{null}")
    return "\n".join(lines)


def _cell(value: float | None, decimals: int, width: int = WIDTH) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{decimals}f}"


def _means(metrics: Tree) -> str:
    told = [
        f"{SPLIT_NAMES[split]} {tree['J&F']:.1f} ({tree['low']:.1f} to {tree['high']:.1f})"
        for split, tree in metrics["clips"]["refavs"].items()
        if split in SPLIT_NAMES
    ]
    lines = [f"J&F over clips, 95 %: {', '.join(told)}"] if told else []
    if null := metrics["refavs"].get("test_n"):
        lines.append(
            f"S without the gate {null['S_ungated']:.3f}, "
            f"S of pixels above 0.4 instead of 0.5 {null['S_at_0.4']:.3f}"
        )
    if gated := metrics.get("gated"):
        labels = SPLIT_NAMES | {"test_n": "null"}
        shares = [f"{labels[split]} {gated[split]:.1f} %" for split in labels if split in gated]
        lines.append(f"rows that the gate blanks: {', '.join(shares)}")
    return "\n".join(lines)


def _picked(metrics: Tree) -> str:
    shares = metrics["picked"]
    told = [
        f"{label} {shares[split]:.1f} %" for split, label in SPLIT_NAMES.items() if split in shares
    ]
    return f"right object: {', '.join(told)} (chance {shares['chance']:.1f} %)" if told else ""


def _val(metrics: Tree) -> str:
    told = [
        f"{part} J&F {tree['J&F']:.1f}, right object {tree['picked']:.1f} %"
        for part, tree in metrics.get("val", {}).items()
        if part != "null"
    ]
    return f"val by 'frame': {'; '.join(told)}" if told else ""


def _families(metrics: Tree) -> str:
    if not metrics["families"]:
        return ""
    lines = [f"{'family':<{LABEL}}{'rows':>7}{'J&F':>7}{'right':>9}{'chance':>9}"]
    for family, tree in metrics["families"].items():
        lines.append(
            f"{family:<{LABEL}}{tree['rows']:>7}{tree['J&F']:>7.1f}"
            f"{tree['picked']:>7.1f} %{tree['chance']:>7.1f} %"
        )
    return "\n".join(lines)
