"""The cards of the mini weights match the weights, the code and the settings."""

from pathlib import Path

import pytest
import yaml

from mini import cards
from mini.cards import CARDS, WEIGHTS, code_digest, read_card, write_card
from sam2love.encoders.weights import DEFAULT, digest
from sam2love.params import load_params

MOST_BYTES = 10_000_000


@pytest.mark.parametrize("name", ["sam2", "vit", "vggish", "roberta"])
def test_card_matches_code_settings_and_weights(name: str) -> None:
    card = read_card(CARDS / f"{name}.md")
    settings = yaml.safe_load(Path("mini/params.yaml").read_text())
    remedy = f"{name}: run `{card['command']}` again"
    assert card["code_digest"] == code_digest(card["files"]), remedy
    assert card["settings"] == settings[name], remedy
    assert card["weights_digest"] == digest(card["weights"]), remedy


def test_params_name_the_mini_weights_by_digest() -> None:
    params = load_params()
    for section, weights in WEIGHTS.items():
        found = getattr(params, section).digest
        assert found == digest(weights), f"{section}.digest: run `python -m mini.cards`"


def test_all_mini_backbones_stay_small() -> None:
    ours = Path(DEFAULT)  # the default run's model, which is no backbone
    files = [file for file in Path("weights/mini").rglob("*") if file.is_file()]
    files = [file for file in files if not file.is_relative_to(ours)]
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES


def test_code_digest_ignores_comments_docstrings_and_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = Path("code.py")
    code.write_text('"""One."""\ndef double(x):\n    """Two."""\n    return 2 * x\n')
    before = code_digest(["code.py"])
    code.write_text("def double(\n    x,\n):\n    # why\n    return 2 * x\n")
    assert code_digest(["code.py"]) == before
    code.write_text("def double(x):\n    return 3 * x\n")
    assert code_digest(["code.py"]) != before


def test_cards_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "CARDS", tmp_path)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"1")
    write_card(
        "tiny",
        title="Tiny",
        text="It saw --- nothing.",
        command="python -m tiny",
        weights=weights,
        files=["mini/cards.py"],
        settings={"seed": 1},
        figures={"right": 0.5},
    )
    card = read_card(tmp_path / "tiny.md")
    assert card["weights_digest"] == digest(weights)
    assert card["settings"] == {"seed": 1}
    assert card["figures"] == {"right": 0.5}


def test_a_file_without_header_is_no_card(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("# Notes\n")
    with pytest.raises(ValueError, match=r"notes\.md: expected a card.*found none"):
        read_card(path)


def test_digests_are_written_and_comments_kept(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    text = Path("params.yaml").read_text()
    values = yaml.safe_load(text)
    for section in WEIGHTS:
        text = text.replace(values[section]["digest"], "0" * 64)
    params.write_text(text)
    cards.main(params)
    assert params.read_text() == Path("params.yaml").read_text()
