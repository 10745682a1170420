"""Captions of film strips: what a font has is drawn, all else is told by its number."""

from matplotlib.font_manager import fontManager

from sam2love.drawing import FONT, caption


def test_letters_that_the_font_has_stay():
    assert caption("Größte Ω, 5 $x_1$") == ("Größte Ω, 5 $x_1$", [FONT])


def test_letters_that_no_font_has_are_told_by_number(monkeypatch):
    own = [font for font in fontManager.ttflist if font.name in (FONT, "Last Resort")]
    monkeypatch.setattr(fontManager, "ttflist", own)
    assert caption("é 错误 \U0001f436") == ("é \\u9519\\u8bef \\U0001f436", [FONT])


def test_another_font_of_the_machine_helps_out(monkeypatch):
    monkeypatch.setattr("sam2love.drawing.FONT", "cmr10")  # no Greek small alpha of Unicode in it
    text, fonts = caption("\u03b1")
    assert (text, fonts[0]) == ("\u03b1", "cmr10")
    assert len(fonts) > 1
