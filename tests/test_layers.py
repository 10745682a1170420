"""Who may import whom. A wing is a folder or a module right below sam2love/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sam2love"
LAYERS = (
    {"__main__"},
    {"cli"},
    {"convert"},
    {"prediction", "report", "compare", "environment"},
    {"training"},
    {"model", "segmentation"},
    {"grounding", "strategies"},
    {"joint"},
    {"fusion", "loss", "sam", "evaluation"},
    {"encoders"},
    {"device"},
    {"stores"},
    {"dataset"},
    {"params", "work"},
)
"""From the top down: a wing imports from those further down, and from itself."""
HOME_OF = {
    "sam2": {"sam"},
    "zarr": {"stores"},
    "numcodecs": {"stores"},
    "timm": {"encoders"},
    "transformers": {"encoders"},
    "accelerate": {"training"},
    "av": {"prediction"},
    "pycocotools": {"prediction", "convert"},
    "gradio": {"prediction"},
    "matplotlib": {"prediction"},
    "jinja2": {"report"},
    "dvc": set(),
}
"""Packages that only one wing imports."""


def imports() -> Iterator[tuple[Path, str, list[str]]]:
    """Each import in the package: the file, its wing, and the dotted names imported."""
    for path in sorted(PACKAGE.rglob("*.py")):
        wing = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                own = node.module == "sam2love"
                names = [f"sam2love.{alias.name}" for alias in node.names] if own else [node.module]
                yield path, wing, names
            elif isinstance(node, ast.Import):
                yield path, wing, [alias.name for alias in node.names]


def test_every_wing_has_a_layer():
    wings = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    code = {name for name in wings if name not in ("__init__", "__pycache__", "shipped", "card.md")}
    assert code == set().union(*LAYERS)


def test_imports_go_down():
    depth = {wing: number for number, layer in enumerate(LAYERS) for wing in layer}
    upward = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, wing, names in imports()
        for name in names
        if name.startswith("sam2love.")
        and (other := name.split(".")[1]) != wing
        and depth[other] <= depth[wing]
    ]
    assert not upward


@pytest.mark.parametrize("package", HOME_OF)
def test_a_package_has_one_home(package):
    found = {wing for _, wing, names in imports() for n in names if n.split(".")[0] == package}
    assert found == HOME_OF[package]


def test_scores_and_data_sets_need_no_torch():
    torch = {wing for _, wing, names in imports() for n in names if n.split(".")[0] == "torch"}
    assert torch.isdisjoint({"evaluation", "dataset", "report", "compare", "work", "params"})
