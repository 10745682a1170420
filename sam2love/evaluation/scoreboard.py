"""Format metrics.json as text: a line per system, objects picked, rejection, val, families."""

from sam2love.dataset.index import NULL_SPLIT, SPLIT_NAMES
from sam2love.evaluation.metrics import MEASURES, PROTOCOLS
from sam2love.evaluation.summary import Tree

WIDTH = 7
LABEL = 18


def scoreboard(metrics: Tree, *, name: str) -> str:
    """Return the tables to print.

    Args:
        metrics: from `summarise`.
        name: the system whose masks were scored.
    """
    parts = (_means, _picked, _late, _rejection, _val, _families)
    texts = [_systems(metrics, name), *(part(metrics) for part in parts)]
    return "\n\n".join(text for text in texts if text)


def _systems(metrics: Tree, name: str) -> str:
    head = "".join(f"{split:>{3 * WIDTH}}" for split in SPLIT_NAMES.values())
    measures = "".join(f"{measure:>{WIDTH}}" for measure in MEASURES * len(SPLIT_NAMES))
    lines = [f"{'refavs':<{LABEL}}{head}{'null':>{WIDTH + 1}}", f"{'':<{LABEL}}{measures}{'S':>8}"]
    systems = {name: metrics["refavs"]}
    systems |= {other: tree["refavs"] for other, tree in metrics["baselines"].items()}
    systems |= {f"{name}, {other}": metrics[other] for other in PROTOCOLS if other != "refavs"}
    for label, tree in systems.items():
        cells = [_cell(tree.get(split, {}).get(m), 1) for split in SPLIT_NAMES for m in MEASURES]
        null = _cell(tree.get(NULL_SPLIT, {}).get("S"), 3, WIDTH + 1)
        lines.append(f"{label:<{LABEL}}{''.join(cells)}{null}")
    return "\n".join(lines)


def _cell(value: float | None, decimals: int, width: int = WIDTH) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{decimals}f}"


def _means(metrics: Tree) -> str:
    means = [
        f"{SPLIT_NAMES[split]} {tree['J&F']:.1f} [{tree['low']:.1f}, {tree['high']:.1f}]"
        for split, tree in metrics["clips"]["refavs"].items()
        if split in SPLIT_NAMES
    ]
    lines = [f"J&F over clips [95 % CI]: {', '.join(means)}"] if means else []
    if null := metrics["refavs"].get(NULL_SPLIT):
        lines.append(
            f"S without the gate {null['S_ungated']:.3f}, "
            f"S of pixels above 0.4 instead of 0.5 {null['S_at_0.4']:.3f}"
        )
    if gated := metrics.get("gated"):
        labels = SPLIT_NAMES | {NULL_SPLIT: "null"}
        rates = [f"{labels[split]} {gated[split]:.1f} %" for split in labels if split in gated]
        lines.append(f"rows blanked by the gate: {', '.join(rates)}")
    return "\n".join(lines)


def _picked(metrics: Tree) -> str:
    picked = metrics["picked"]
    rates = [
        f"{label} {picked[split]:.1f} %" for split, label in SPLIT_NAMES.items() if split in picked
    ]
    return f"right object: {', '.join(rates)} (chance {picked['chance']:.1f} %)" if rates else ""


def _late(metrics: Tree) -> str:
    parts = [
        f"{part} J&F {tree['J&F']:.1f}, {tree['over_others']:.2f} of the others'"
        for part, tree in metrics.get("late", {}).items()
    ]
    return f"not in view on frame 0: {'; '.join(parts)}" if parts else ""


def _rejection(metrics: Tree) -> str:
    parts = []
    for part, tree in metrics.get("rejection", {}).items():
        families = [f"{name} {of['AUC']:.3f}" for name, of in tree.get("families", {}).items()]
        by_family = f" ({', '.join(families)})" if families else ""
        parts.append(f"{part} {tree['AUC']:.3f}{by_family}")
    return f"AUC of presence against null rows: {'; '.join(parts)}" if parts else ""


def _val(metrics: Tree) -> str:
    parts = [
        f"{part} J&F {tree['J&F']:.1f}, right object {tree['picked']:.1f} %"
        for part, tree in metrics.get("val", {}).items()
        if part != "null"
    ]
    return f"val by 'frame': {'; '.join(parts)}" if parts else ""


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
