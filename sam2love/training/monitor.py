"""Show a training while it runs: its curves, and a few rows of val with truth and prediction.

DVC plots these outputs of the stage, meanwhile too. Each file is replaced as a whole, and depends
only on the records and the weights, so that a resumed training ends with the same bytes.

Shapes: H x W pixels of a picture, h x w of it in a panel.
"""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from PIL import Image, ImageDraw

from sam2love.dataset import refavs
from sam2love.evaluation.metrics import REGION_SHOWN, probabilities
from sam2love.model import WEIGHTS, SAM2Love
from sam2love.params import Train
from sam2love.stores.features import FeatureReader
from sam2love.training.batches import read_batch
from sam2love.training.checkpoint import History
from sam2love.work import replacing

CURVES, PICTURES = ("loss.csv", "validation.csv"), "pictures"
"""Names of what is written."""
UPDATES = 100
"""How often the curves are written during a training."""
ROWS = 4
"""Rows of val that are shown."""
PANEL = 240
"""Pixels of a panel's longer side; smaller frames are not enlarged."""
UNSEEN = np.full((PANEL, PANEL, 3), 160, np.uint8)
CAPTION = 18
"""Pixels of height for the sentence."""
DIMMED = 4
"""What lies outside a mask is darkened by this factor."""


class Monitor:
    """Write what there is to see of a training, after each of its steps; for the main process.

    Args:
        folder: the stage's output. What an earlier training left there is removed: its weights
            beside the first curves of this one would look like the result of one training.
        model: the one that is trained.
        rows: of val, from the expression table.
        root: the data set; where features alone were pulled, pictures are on gray.
        train: says how many steps there are.

    Raises:
        FileNotFoundError, ValueError: a frame to be shown is missing or damaged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        accelerator: Accelerator,
        model: SAM2Love,
        rows: pd.DataFrame,
        reader: FeatureReader,
        root: Path,
        train: Train,
    ) -> None:
        self._folder, self._accelerator = folder, accelerator
        self._model, self._reader = model, reader
        self._steps = train.grounding_steps + train.steps
        self._rows = _spread(rows[~rows["null"]], ROWS)
        self._frames = [
            _shrunk(refavs.read_frame(root, key, 0)) if root.is_dir() else UNSEEN
            for key in self._rows["key"]
        ]
        for name in (WEIGHTS, *CURVES):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / PICTURES, ignore_errors=True)
        (folder / PICTURES).mkdir(parents=True)

    def __call__(self, history: History) -> None:
        """Write the curves a hundred times in a training, and pictures after a validation."""
        losses, validations = history.losses, history.validations
        done = len(losses)
        if done:
            self._log("train", losses[-1])
        if validated := bool(
            done and validations and validations[-1]["step"] == losses[-1]["step"]
        ):
            self._log("val", validations[-1])
            self._draw(frames=int(losses[-1]["frames"]))
        steps = max(1, self._steps)
        if validated or done * UPDATES // steps != (done - 1) * UPDATES // steps:
            for name, records in zip(CURVES, (losses, validations), strict=True):
                with replacing(self._folder / name) as file:
                    pd.DataFrame(records).to_csv(file, index=False, float_format="%.6g")

    def _log(self, part: str, record: dict[str, float]) -> None:
        """Pass a record to TensorBoard, if it is installed."""
        values = {f"{part}/{name}": value for name, value in record.items() if name != "step"}
        self._accelerator.log(values, step=int(record["step"]))

    def _draw(self, *, frames: int) -> None:
        batch = read_batch(self._rows, self._reader, frames=frames).to(self._accelerator.device)
        with torch.inference_mode():
            first = self._model(batch.features, batch.embeddings).decoded
        logits = first.logits.float().cpu().numpy()
        truths = self._reader.labels(self._rows["key"].tolist(), self._rows["fid"].tolist())
        shown = zip(self._rows["exp"], self._frames, truths, logits, strict=True)
        for number, (sentence, frame, truth, row_logits) in enumerate(shown):
            picture = draw_row(sentence, frame, truth.numpy(), row_logits)
            with replacing(self._folder / PICTURES / f"{number}.png") as file:
                picture.save(file)


def draw_row(
    sentence: str, frame: np.ndarray, truth: np.ndarray, logits: np.ndarray
) -> Image.Image:
    """Draw a frame, then what truth and prediction show of it, below the sentence.

    Args:
        frame: (h, w, 3) uint8 RGB.
        truth: (H, W) bool, of any size.
        logits: (1, 4h', 4w') of the predicted mask.
    """
    height, width = frame.shape[:2]
    true = cv2.resize(truth.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0.5
    predicted = probabilities(logits, size=(height, width), logits=True)[0] > REGION_SHOWN
    cut_out = (np.where(mask[..., None], frame, frame // DIMMED) for mask in (true, predicted))
    panels = Image.fromarray(np.concatenate([frame, *cut_out], axis=1))
    picture = Image.new("RGB", (panels.width, CAPTION + height), "white")
    picture.paste(panels, (0, CAPTION))
    ImageDraw.Draw(picture).text((3, 2), " ".join(sentence.split()), fill="black", font_size=12)
    return picture


def _shrunk(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = min(1, PANEL / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return rows at even distances, so that they are of several clips."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return rows.iloc[places]
