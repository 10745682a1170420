"""The paper's ablations, Tables 2 to 6 and Figure 1: parameters varied, and figures printed.

Figures are percentages on Ref-AVS: J, F, J&F on seen, then on unseen. Table 1 is in report/results.
Source: SAM2-LOVE, section 4.4.
"""

import re
from dataclasses import dataclass

SEEN, BOTH = ("test_s",), ("test_s", "test_u")
WITHOUT_ACCUMULATION = (42.6, 50.9, 46.7, 66.3, 71.6, 69.0)
"""The last row of Table 2, from which Tables 3 to 6 start."""


@dataclass(frozen=True)
class Row:
    """A row of one of the paper's tables.

    values: by parameter, a regular expression for its value as written after -S.
    figures: empty in Figure 1, which shows pictures.
    """

    label: str
    values: dict[str, str]
    figures: tuple[float, ...] = ()

    def matches(self, params: dict[str, str]) -> bool:
        """Return whether a run with these parameters belongs to this row."""
        return all(
            re.fullmatch(pattern, params.get(name, ""), re.IGNORECASE)
            for name, pattern in self.values.items()
        )


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper."""

    title: str
    rows: tuple[Row, ...]
    splits: tuple[str, ...] = BOTH

    @property
    def varied(self) -> list[str]:
        """The parameters in which its rows differ."""
        return list(self.rows[0].values)

    @property
    def has_figures(self) -> bool:
        """Whether the paper prints figures for any row."""
        return any(row.figures for row in self.rows)

    def row_of(self, params: dict[str, str]) -> Row | None:
        """Return the first row that a run with these parameters belongs to."""
        return next((row for row in self.rows if row.matches(params)), None)


def _weights(kind: str) -> str:
    """Match weights by the name of their folder or repository, ignoring parent folders."""
    return rf"(.*/)?[^/@]*{kind}[^/@]*/?(@.*)?"


CLIP = _weights("clip")
VIT = rf"(?!{_weights('(cl|sigl)ip')}$){_weights('(?<![a-z])vit')}"
"""Excludes CLIP and SigLIP, whose names contain "vit" too, and names such as mobilevit."""
ROBERTA = _weights("roberta")


def _backbones(vision: str, text: str, history: str) -> dict[str, str]:
    return {
        "vision.weights": vision,
        "vision.digest": ".*",
        "text.weights": text,
        "text.digest": ".*",
        "fusion.history": history,
    }


def _trained(mask_decoder: str, prompt_encoder: str) -> dict[str, str]:
    return {"sam2.train_mask_decoder": mask_decoder, "sam2.train_prompt_encoder": prompt_encoder}


TABLES = (
    Table(
        "Table 2, backbones and [cls] accumulation",
        (
            Row(
                "CLIP-T and CLIP-V, [cls] accumulated",
                _backbones(CLIP, CLIP, "previous"),
                (42.5, 51.2, 46.8, 65.1, 71.4, 68.2),
            ),
            Row(
                "RoBERTa and ViT, [cls] accumulated",
                _backbones(VIT, ROBERTA, "previous"),
                (43.5, 51.9, 47.7, 66.5, 72.3, 69.4),
            ),
            Row("RoBERTa and ViT", _backbones(VIT, ROBERTA, "none"), WITHOUT_ACCUMULATION),
        ),
    ),
    Table(
        "Table 3, transformer blocks",
        (
            Row("1 layer", {"fusion.layers": "1"}, (41.5, 49.4, 45.4, 65.2, 70.9, 68.1)),
            Row("6 layers", {"fusion.layers": "6"}, WITHOUT_ACCUMULATION),
            Row("12 layers", {"fusion.layers": "12"}, (42.0, 50.7, 46.4, 67.7, 73.3, 70.5)),
        ),
    ),
    Table(
        "Table 4, [seg] tokens",
        (
            Row("1", {"fusion.seg_tokens": "1"}, WITHOUT_ACCUMULATION),
            Row("4", {"fusion.seg_tokens": "4"}, (41.3, 50.8, 46.0, 65.2, 71.0, 68.1)),
            Row("8", {"fusion.seg_tokens": "8"}, (40.7, 49.8, 45.2, 67.0, 72.2, 69.6)),
        ),
    ),
    Table(
        "Table 5, fusion strategy",
        (
            Row("learnable token", {"fusion.strategy": "token"}, WITHOUT_ACCUMULATION),
            Row("mean", {"fusion.strategy": "mean"}, (41.6, 50.1, 45.8, 65.9, 71.6, 68.7)),
        ),
    ),
    Table(
        "Table 6, trained modules of SAM 2",
        (
            Row("neither", _trained("false", "false"), (34.8, 44.8, 39.8)),
            Row("mask decoder", _trained("true", "false"), (42.2, 50.7, 46.5)),
            Row("mask decoder and prompt encoder", _trained("true", "true"), (42.5, 50.9, 46.7)),
        ),
        SEEN,
    ),
    Table(
        "Figure 1, modalities (the paper shows pictures, no figures)",
        (
            Row("text and vision (a)", {"fusion.modalities": r"\[text,vision\]"}),
            Row("audio and vision (b)", {"fusion.modalities": r"\[audio,vision\]"}),
            Row("audio, text and vision (c)", {"fusion.modalities": r"\[audio,text,vision\]"}),
        ),
    ),
)
