"""A training step of the fusion against torch's own encoder in a plain loop over the frames.

The plain loop computes every output of every layer; ours skips those that are never read. Both have
the same weights and outputs, in float32, not compiled. And a step of `joint`, which reads one frame
with its trajectories, against the propagated token's, which reads all, on the same rows.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Leaf, short, side_by_side, speedup
from sam2love.fusion import Fusion as FusionModule
from sam2love.fusion import FusionTransformer
from sam2love.joint import JointFusion
from sam2love.params import Fusion
from sam2love.stores.features import Features

FRAMES, WORDS, PATCHES = 10, 12, 64
DIMS: dict[str, Any] = {"audio_dim": 128, "visual_dim": 96, "text_dim": 64}
"""Feature sizes of the mini encoders."""


def measure(size: Fusion, *, rows: int = 64, rounds: int = 7) -> dict[str, Leaf]:
    """Measure forward and backward at a size, without the parameters that only ours has."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        name: getattr(size, name) for name in ("dim", "layers", "heads", "mlp_ratio")
    }
    fusion = FusionTransformer(**sizes, **DIMS, modalities=size.modalities)
    encoder = plain_encoder(fusion)
    inputs = random_features(rows)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: fusion(inputs).prompt,
        "plain": lambda: plain_loop(fusion, encoder, inputs),
    }
    torch.testing.assert_close(ways["ours"](), ways["plain"](), atol=1e-3, rtol=1e-3)

    def step(way: str) -> None:
        ways[way]().square().mean().backward()
        for module in (fusion, encoder):
            module.zero_grad(set_to_none=True)

    seconds = side_by_side({way: partial(step, way) for way in ways}, rounds=rounds)
    bound = short(flops_bound(size, tokens=3 + FRAMES + WORDS + PATCHES + FRAMES // 2))
    leaf = speedup(seconds, "ours", "plain", **sizes, rows=rows, bound_by_flops=bound)
    return {"speedup_over_plain_encoder": leaf}


def measure_joint(
    size: Fusion, *, patches: int = 196, width: int = 768, rows: int = 1, rounds: int = 3
) -> Leaf:
    """Measure forward and backward of both strategies on rows of N frames, the paper's by default.

    Args:
        width: of all features.
    """
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        name: getattr(size, name) for name in ("dim", "layers", "heads", "mlp_ratio", "modalities")
    }
    sizes |= dict.fromkeys(DIMS, width)
    inputs = random_features(rows, patches=patches, dims=dict.fromkeys(DIMS, width))
    fusions: dict[str, FusionModule] = {
        "joint": JointFusion(trajectories=True, **sizes),
        "token": FusionTransformer(**sizes),
    }

    def step(way: str) -> None:
        fusions[way](inputs).prompt.square().mean().backward()
        fusions[way].zero_grad(set_to_none=True)

    seconds = side_by_side({way: partial(step, way) for way in fusions}, rounds=rounds)
    return speedup(seconds, "joint", "token", dim=size.dim, layers=size.layers, rows=rows)


def flops_bound(size: Fusion, *, tokens: int) -> float:
    """Return the speedup if only multiplications took time.

    Counts a token's multiplications per layer in units of dim squared. In the last layer, ours
    computes only keys and values of most tokens.
    """
    whole = 4 + 2 * size.mlp_ratio + 2 * tokens / size.dim
    return size.layers * whole / ((size.layers - 1) * whole + 2)


def plain_encoder(fusion: FusionTransformer) -> nn.TransformerEncoder:
    """Return torch's pre-norm encoder with the fusion's weights."""
    blocks: list[Any] = list(fusion.blocks)
    first = blocks[0]
    layer = nn.TransformerEncoderLayer(
        first.query.in_features,
        first.heads,
        first.mlp[0].out_features,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    encoder = nn.TransformerEncoder(
        layer, len(blocks), norm=fusion.norm, enable_nested_tensor=False
    )
    layers: list[Any] = list(encoder.layers)
    for theirs, ours in zip(layers, blocks, strict=True):
        attention, query, key_value = theirs.self_attn, ours.query, ours.key_value
        attention.in_proj_weight = nn.Parameter(torch.cat([query.weight, key_value.weight]))
        attention.in_proj_bias = nn.Parameter(torch.cat([query.bias, key_value.bias]))
        attention.out_proj = ours.out
        theirs.norm1, theirs.norm2 = ours.norm_attention, ours.norm_mlp
        theirs.linear1, theirs.linear2 = ours.mlp[0], ours.mlp[2]
    return encoder


def plain_loop(
    fusion: FusionTransformer, encoder: nn.TransformerEncoder, inputs: Features
) -> Tensor:
    """Return [seg], (B, S, D), by Eq. 3 and 4 frame by frame; tests compare the fusion with it."""
    rows = len(inputs.text_mask)
    audio = fusion.audio_projection(inputs.audio)
    text = fusion.text_projection(inputs.text)
    visual = fusion.visual_projection(inputs.patches)
    cls = fusion.visual_projection(inputs.cls)
    aud, vis = (token.expand(rows, 1, -1) for token in (fusion.aud, fusion.vis))
    seg = fusion.seg.expand(rows, -1, -1)
    for i in range(visual.shape[1]):
        seen = {"previous": i, "inclusive": i + 1, "none": 0}[fusion.history]
        parts = [seg, audio, aud, text, vis, visual[:, i], cls[:, :seen]]
        padding = [torch.zeros(part.shape[:2], dtype=torch.bool) for part in parts]
        padding[3] = ~inputs.text_mask
        output = encoder(torch.cat(parts, 1), src_key_padding_mask=torch.cat(padding, 1))
        seg = output[:, : seg.shape[1]]
    return seg


def random_features(rows: int, *, patches: int = PATCHES, dims: dict[str, Any] = DIMS) -> Features:
    """Return random features of expressions of several lengths."""
    lengths = torch.arange(rows) % (WORDS - 3) + 4
    return Features(
        audio=torch.randn(rows, FRAMES, dims["audio_dim"]),
        patches=torch.randn(rows, FRAMES, patches, dims["visual_dim"]),
        cls=torch.randn(rows, FRAMES, dims["visual_dim"]),
        text=torch.randn(rows, WORDS, dims["text_dim"]),
        text_mask=torch.arange(WORDS)[None] < lengths[:, None],
    )
