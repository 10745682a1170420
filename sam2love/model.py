"""SAM2-LOVE: the fused [seg] token prompts SAM 2 on the first frame (section 3.3).

Shapes: B expressions, N frames, C the width of SAM 2's prompts, h x w cells of its embedding.
"""

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sam2love.device import mixed_precision
from sam2love.encoders.tensors import read_tensors, select
from sam2love.encoders.weights import DEFAULT, fetch, fetch_pretrained, weights_file
from sam2love.fusion import Fused, Fusion, Projection
from sam2love.grounding import LearnedPositions, belief
from sam2love.params import Config, Weights, load_config
from sam2love.sam.build import SAM2Base, build_sam2
from sam2love.sam.decode import Decoded, Prompts, decode, grid_positions
from sam2love.stores.features import Features
from sam2love.strategies import build_fusion
from sam2love.work import replacing

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
"""The files of a pretrained folder."""
SURE = 0.98
"""The belief with which [seg] prompts a frame without reading the later ones. On the mini set's
val, the highest belief of all frames is no better, and takes several times as long."""


class Segmented(NamedTuple):
    """The model's output for B expressions."""

    prompts: Tensor
    """(B, 1, C) for SAM 2."""
    fused: Fused
    """The fusion's output, from which the prompts were projected."""
    decoded: Decoded | None
    """Masks and object scores; None where no embeddings were given."""


class SAM2Love(nn.Module):
    """Fusion transformer, prompt MLP and SAM 2, of which only the heads are trained.

    Args:
        fusion: compresses audio, text and frames into one token.
        sam2: a complete SAM 2; its prompt encoder and mask decoder are trained here.
        any_frame: `frame: any` of `params.Fusion`.
        train_prompt_encoder, train_mask_decoder, train_high_res_convs: see `params.Sam2`.
    """

    def __init__(
        self,
        fusion: Fusion,
        sam2: SAM2Base,
        *,
        any_frame: bool = False,
        train_prompt_encoder: bool = True,
        train_mask_decoder: bool = True,
        train_high_res_convs: bool = False,
    ) -> None:
        super().__init__()
        self.fusion, self.sam2, self.any_frame = fusion, sam2, any_frame
        self.prompt_projection = Projection(fusion.dim, fusion.dim, sam2.sam_prompt_embed_dim)
        decoder = sam2.sam_mask_decoder
        sam2.requires_grad_(False)
        # The only part of the prompt encoder in use: there are no points, boxes or masks.
        sam2.sam_prompt_encoder.no_mask_embed.requires_grad_(train_prompt_encoder)
        decoder.requires_grad_(train_mask_decoder)
        for conv in (decoder.conv_s0, decoder.conv_s1):
            conv.requires_grad_(train_high_res_convs)
        self.config: Config | None = None
        """The parameters that it was built from."""

    @classmethod
    def build(cls, config: Config, *, patches: int, **dims: Any) -> "SAM2Love":
        """Build an untrained model on the CPU, except for SAM 2's pre-trained weights.

        Args:
            patches: HW, the patches per frame.
            dims: audio_dim, visual_dim and text_dim of the encoders.
        """
        sam2 = build_sam2(config.sam2.config, config.sam2.weights, digest=config.sam2.digest)
        positions = None
        if config.fusion.positions == "learned":
            positions = LearnedPositions(
                config.fusion.dim,
                patch_positions=grid_positions(sam2, cells=patches),
                frames=config.data.frames,
            )
        fusion = build_fusion(config.fusion, positions=positions, frames=config.data.frames, **dims)
        model = cls(
            fusion,
            sam2,
            any_frame=config.fusion.frame == "any",
            train_prompt_encoder=config.sam2.train_prompt_encoder,
            train_mask_decoder=config.sam2.train_mask_decoder,
            train_high_res_convs=config.sam2.train_high_res_convs,
        )
        model.config = config
        return model

    @classmethod
    def restore(cls, config: Config, weights: Path) -> "SAM2Love":
        """Build a trained model on the CPU; the encoders' widths are read off the weights.

        Args:
            weights: a file that `save` wrote.

        Raises:
            FileNotFoundError, ValueError: no such weights, or not those of this model.
        """
        projections = {
            f"{name}_dim": f"fusion.{name}_projection.0.weight"
            for name in ("audio", "visual", "text")
        }
        state = select(read_tensors(weights), [*projections.values()], origin=weights)
        shapes = {name: tensor.shape for name, tensor in state.items()}
        try:
            dims = {dim: shapes[name][1] for dim, name in projections.items()}
        except KeyError as error:
            raise ValueError(f"{weights}: not the weights of a SAM2Love, no {error}") from None
        # Only learned positions depend on the number of patches.
        patches = shapes.get("fusion.positions.patch_positions", (1,))[0]
        model = cls.build(config, patches=patches, **dims).eval()
        model.load(weights)
        return model

    @classmethod
    def from_pretrained(cls, source: str | Path = DEFAULT) -> "SAM2Love":
        """Load a trained model on the CPU, ready to predict.

        SAM 2 is found by its name in config.json: a path from the working folder, a hub id, or
        one of the weights that come with the package. Its digest is verified.

        Args:
            source: a folder that `save_pretrained` wrote, or a hub id, `owner/name` or
                `owner/name@revision`. By default the mini model that comes with the package.

        Raises:
            FileNotFoundError, ValueError: no such folder or id, or its contents don't fit.
        """
        folder = fetch_pretrained(str(source), (CONFIG, WEIGHTS))
        return cls.restore(load_config(folder / CONFIG), folder / WEIGHTS)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder for `from_pretrained`: config.json, model.safetensors and a model card."""
        if self.config is None:
            raise ValueError("the model was not built from parameters: SAM2Love.build does that")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.model_dump(mode="json", include=set(Config.model_fields))
        config["data"] = {"frames": self.config.data.frames}  # not its path
        card = files("sam2love").joinpath("card.md").read_text(encoding="utf-8")
        with replacing(folder / CONFIG) as file:
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / CARD) as file:
            file.write_text(card, encoding="utf-8")
        with replacing(folder / WEIGHTS) as file:
            self.save(file)

    def forward(
        self,
        features: Features,
        embeddings: tuple[Tensor, Tensor, Tensor] | None = None,
        *,
        frame: Tensor | None = None,
    ) -> Segmented:
        """Segment the object that each sentence means on one frame (sections 3.2 and 3.3).

        Args:
            embeddings: SAM 2's of these frames, as `encode_frames` returns them; without them no
                mask is decoded.
            frame: see `Fusion.forward`; by default frame 0.
        """
        with mixed_precision(self.sam2.device):
            fused = self.fusion(features, frame=frame)
            prompts = self.prompt_projection(fused.prompt[:, :1])  # (B, 1, C)
            decoded = decode(self.sam2, embeddings, prompts) if embeddings is not None else None
        return Segmented(prompts, fused, decoded)

    def prompts(self, features: Features) -> Prompts:
        """Prompt SAM 2 on frame 0 or, with `fusion.frame: any`, on a frame that shows the object.

        That is the first frame on which [seg] is SURE to see the object; if there is none, the one
        where its belief is highest.
        """
        out = self(features)
        frame = torch.zeros(len(out.prompts), dtype=torch.int64, device=out.prompts.device)
        if not self.any_frame:
            return Prompts(out.prompts, frame, None)
        assert out.fused.attention is not None
        tokens, highest = out.prompts, belief(out.fused.attention.float())
        frames = features.cls.shape[1]
        for number in range(1, frames):
            left = (highest <= math.log(SURE / (1 - SURE))).nonzero()[:, 0]
            if not len(left):
                break
            some = Features(*(part[left] for part in features))
            out = self(some, frame=torch.full_like(left, number))
            assert out.fused.attention is not None
            seen = belief(out.fused.attention.float())
            better = seen > highest[left]
            rows = left[better]
            tokens[rows], frame[rows], highest[rows] = out.prompts[better], number, seen[better]
        # The highest of N beliefs is high by chance N times as often as a single one.
        return Prompts(tokens, frame, highest - math.log(frames))

    @property
    def cell_positions(self) -> Tensor:
        """SAM 2's positional encoding of its embedding's cells, (h * w, C)."""
        return grid_positions(self.sam2, cells=self.sam2.sam_image_embedding_size**2)

    def trained_state(self) -> dict[str, Tensor]:
        """Return the weights that training can change, and the fixed [aud] and [vis]."""
        heads = ("sam2.sam_prompt_encoder.", "sam2.sam_mask_decoder.")
        return {
            name: tensor.contiguous().cpu()
            for name, tensor in self.state_dict().items()
            if not name.startswith("sam2.") or name.startswith(heads)
        }

    def save(self, path: Path) -> None:
        """Write the trained weights as safetensors."""
        save_file(self.trained_state(), path)

    def start_from(self, init: Weights) -> None:
        """Load the weights of a trained model, of which the training goes on.

        Shapes don't show everything that weights depend on, such as the number of heads. If there
        is a config.json next to the weights, its fusion and its encoders are compared too.

        Args:
            init: `train.init` of the parameters.

        Raises:
            FileNotFoundError, ValueError: no such weights, of another digest, or of a model with
                other parameters.
        """
        folder = fetch(init.weights, init.digest)
        remedy = "set the parameters of that model, or train.init to null"
        if self.config is not None and (folder / CONFIG).is_file():
            theirs, ours = (_determining(c) for c in (load_config(folder / CONFIG), self.config))
            others = [key for key in ours if theirs[key] != ours[key]]
            if others:
                named = "; ".join(f"{key} is {theirs[key]}, not {ours[key]}" for key in others)
                raise ValueError(
                    f"{folder / CONFIG}: does not fit the parameters ({named}); {remedy}"
                )
        self.load(weights_file(folder), remedy=remedy)

    def load(self, path: Path, *, remedy: str = "run the stage 'train' again") -> None:
        """Read weights that `save` wrote.

        Args:
            remedy: the end of the error's message, what to do about other weights.

        Raises:
            ValueError: the file does not fit this model, so other parameters were used.
        """
        expected = self.trained_state()
        state = select(read_tensors(path), expected.keys(), origin=path)
        wrong = sorted(
            name
            for name in state.keys() | expected.keys()
            if name not in state
            or name not in expected
            or state[name].shape != expected[name].shape
        )
        if wrong:
            raise ValueError(
                f"{path} does not fit the parameters ({len(wrong)} tensors differ, "
                f"the first is {wrong[0]}); {remedy}"
            )
        self.load_state_dict(state, strict=False)


def _determining(config: Config) -> dict[str, Any]:
    """Return the parameters without which trained weights mean something else."""
    encoders = ("audio", "vision", "text", "sam2")
    digests = {f"{name}.digest": getattr(config, name).digest for name in encoders}
    return {f"fusion.{name}": value for name, value in config.fusion} | digests
