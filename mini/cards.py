"""Cards that record the provenance of the mini weights, and their digests in params.yaml.

    python -m mini.cards

A card is a Markdown file with a YAML header: digests of the weights and of the code that produced
them, its settings, and the figures. The command writes the weights' digests into params.yaml.
"""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from sam2love.encoders.weights import digest

CARDS = Path("weights/mini/cards")
WEIGHTS = {
    "audio": Path("weights/mini/vggish.safetensors"),
    "vision": Path("weights/mini/vit"),
    "text": Path("weights/mini/roberta"),
    "sam2": Path("weights/mini/sam2/model.safetensors"),
}
"""Weights by section of params.yaml."""


def main(params: Path = Path("params.yaml")) -> None:
    """Write the digests of the mini weights into a parameter file and keep its comments.

    Raises:
        FileNotFoundError: weights that the file names do not exist.
    """
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 1000
    editor.indent(mapping=2, sequence=4, offset=2)
    editor.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    values = editor.load(params.read_text(encoding="utf-8"))
    ours = [name for name in WEIGHTS if Path(values[name]["weights"]) == WEIGHTS[name]]
    for section in ours:
        values[section]["digest"] = DoubleQuotedScalarString(digest(WEIGHTS[section]))
    with params.open("w", encoding="utf-8") as file:
        editor.dump(values, file)
    typer.echo(f"{params}: wrote the digests of the mini weights for {', '.join(ours)}")


def code_digest(paths: Iterable[str | Path]) -> str:
    """Return the SHA-256 of Python files, ignoring comments, docstrings and layout.

    Args:
        paths: relative to the working directory; the names count, the order does not.
    """
    total = hashlib.sha256()
    for path in sorted(Path(path).as_posix() for path in paths):
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        total.update(f"{path}\n{_plain(tree)!r}\n".encode())
    return total.hexdigest()


def write_card(
    name: str,
    *,
    title: str,
    text: str,
    command: str,
    weights: Path,
    files: list[str],
    settings: dict[str, Any],
    figures: dict[str, Any],
    material: str | None = None,
) -> None:
    """Write the card of one set of weights.

    Args:
        text: describes the model and its training material.
        files: the code that determines the weights, training material included.
        settings: the model's section of mini/params.yaml.
        figures: measured on held-out material, under self-explanatory names.
        material: digest of the training material, where `files` does not determine it.
    """
    facts = {
        "command": command,
        "weights": weights.as_posix(),
        "weights_digest": digest(weights),
        "code_digest": code_digest(files),
        "files": files,
        **({"material_digest": material} if material else {}),
        "settings": settings,
        "figures": figures,
    }
    header = yaml.safe_dump(facts, sort_keys=False, width=100)
    CARDS.mkdir(parents=True, exist_ok=True)
    (CARDS / f"{name}.md").write_text(f"---\n{header}---\n# {title}\n\n{text.strip()}\n")


def read_card(path: Path) -> dict[str, Any]:
    """Return the facts in the header of a card.

    Raises:
        ValueError: the file does not start with YAML between two '---' lines.
    """
    parts = path.read_text(encoding="utf-8").split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise ValueError(
            f"{path}: expected a card with YAML between two '---' lines, found none; "
            "run the command that trains its weights again"
        )
    return yaml.safe_load(parts[1])


def _plain(node: Any) -> Any:
    """Return a syntax tree as nested tuples, without docstrings (bare strings)."""
    if isinstance(node, list):
        return tuple(_plain(item) for item in node if not _is_docstring(item))
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node))
        return type(node).__name__, tuple(
            (name, _plain(value)) for name, value in fields if value is not None and value != []
        )
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


if __name__ == "__main__":
    typer.run(main)
