"""The fusion that `fusion.strategy` names."""

from torch import nn

from sam2love import params
from sam2love.dataset.refavs import FRAMES
from sam2love.fusion import Fusion, FusionTransformer, MeanFusion
from sam2love.joint import JointFusion


def build_fusion(
    settings: params.Fusion,
    *,
    positions: nn.Module | None,
    frames: int = FRAMES,
    **dims: int,
) -> Fusion:
    """Build the fusion of a run.

    Args:
        positions: see `Fusion`.
        frames: of a clip.
        dims: audio_dim, visual_dim and text_dim of the encoders.
    """
    shared = dict(settings) | dims | {"positions": positions}
    del shared["frame"]  # of the model
    token = ("seg_tokens", "propagation", "history", "order")
    own = {name: shared.pop(name) for name in (*token, "trajectories")}
    match shared.pop("strategy"):
        case "joint":
            return JointFusion(frames=frames, **own, **shared)
        case "token":
            del own["trajectories"]
            return FusionTransformer(**own, **shared)
        case _:
            return MeanFusion(**shared)
