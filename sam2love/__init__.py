"""SAM2-LOVE: a sentence, a sound and a video go in, the mask of what is meant comes out."""

from importlib import import_module
from typing import Any

_HOMES = {
    "FusionTransformer": "fusion",
    "SAM2Love": "model",
    "Predictor": "prediction.predictor",
    "FeatureReader": "stores.features",
    "FeatureStore": "stores.store",
    "ArraySpec": "stores.store",
    "fill_store": "stores.store",
    "load_audio_encoder": "encoders.audio",
    "load_vision_encoder": "encoders.vision",
    "load_text_encoder": "encoders.text",
    "build_sam2": "sam.build",
    "load_params": "params",
    "region_j": "evaluation.metrics",
    "f_curves": "evaluation.metrics",
    "s_measure": "evaluation.metrics",
    "boundary_f": "evaluation.metrics",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sam2love' has no attribute {name!r}")
    return getattr(import_module(f"sam2love.{_HOMES[name]}"), name)
