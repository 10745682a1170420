"""The typed schema of params.yaml: every parameter of a run, validated when it is read."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
KeepBits = Annotated[int, Field(ge=1, le=10)] | None
"""Bits kept of the 10 in a float16's mantissa. The others are rounded away and the store is
compressed: smaller, and slower to read (docs/stores.md). Null keeps all."""
Modality = Literal["audio", "text", "vision"]
History = Literal["previous", "inclusive", "none"]
Order = Literal["forward", "backward"]
Projections = Literal["mlp", "linear"]
POSITIONED_TOKENS = 64
"""Text tokens that have a learned position."""


class Section(BaseModel):
    """A section of params.yaml: strict about keys and types, and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Clips(Section):
    frames: Count
    """Frames of a clip, one per second, and seconds of its sound."""


class Data(Clips):
    root: str
    """Folder with metadata.csv, media/ and gt_mask/."""
    null_rows: bool
    """Train on the null rows too, with empty masks; the benchmark has them in its train split."""


class Runtime(Section):
    """Where and how fast stages run. DVC reruns no stage when this changes."""

    device: Literal["cpu", "cuda"]
    threads: Count
    """CPU threads of torch. Another number sums in another order: other bits (docs/training.md)."""
    processes: Count
    """Processes that share the work of a stage that runs a network (training has its own number),
    each on its own GPU if `device` is cuda. Has no effect on results."""
    workers: Annotated[int, Field(ge=0)]
    """Processes that read batches ahead, for each process that trains; 0 reads them in the training
    process. Has no effect on results."""


class Weights(Section):
    """Weights by name and content: DVC compares the digest, so other content is another run."""

    weights: str
    """A path, owner/name@revision on the Hugging Face hub, or the https URL of a file."""
    digest: Digest
    """SHA-256 of the weights file (in a folder, its model.safetensors); verified before use."""


class Audio(Weights):
    post_relu: bool
    """Use VGGish's output after its last ReLU; the benchmark's features are from before it. Of
    VGGish alone: false with other encoders."""


class Vision(Weights):
    batch_size: Count
    """Frames encoded at once."""
    keep_bits: KeepBits


class Text(Weights):
    max_tokens: Count
    """Longer expressions are truncated; special tokens count."""


class Sam2(Weights):
    config: str
    """The model's YAML: a path, or the name of one in the sam2 package."""
    cache_test_frames: Literal["first", "all"]
    """Frames of the val and test clips kept in the store; propagation encodes the rest."""
    keep_bits: KeepBits
    train_prompt_encoder: bool
    train_mask_decoder: bool
    train_high_res_convs: bool
    """Train conv_s0 and conv_s1 too; the store then holds their inputs, five times the size."""


class Fusion(Section):
    dim: Count
    layers: Count
    heads: Count
    mlp_ratio: Annotated[float, Field(gt=0)]
    seg_tokens: Count
    """Number of [seg] tokens; the first one prompts SAM 2 (Table 4)."""
    strategy: Literal["token", "mean", "joint"]
    """What prompts SAM 2: the propagated [seg] token, the mean of all outputs (Table 5), or a [seg]
    that reads frame 0 once, with all sound, text and [cls] (ours)."""
    trajectories: bool
    """Ours: `joint` sees where each patch of frame 0 is found again in the other frames."""
    projections: Projections
    """Of the features (Eq. 1): linear, ReLU, linear; or (ours) a linear map alone."""
    frame: Literal["first", "any"]
    """The frame that is prompted: frame 0, or (ours, for `joint`) the first one on which [seg]
    believes to see the object, for which some grounding steps' rows are of other frames too."""
    modalities: tuple[Modality, ...]
    propagation: bool
    """Carry the [seg] token from frame to frame; without it the prompt is the mean over frames."""
    history: History
    """Frames whose [cls] is in [his] (Eq. 4): those before this one, this one too, or none."""
    order: Order
    """Order in which [seg] visits frames; backward (ours) ends on the frame that is prompted."""
    positions: Literal["none", "learned"]
    """Learned embeddings (ours) of seconds, text tokens, frames and the places of patches."""

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: dict) -> dict:
        if isinstance(values, dict) and isinstance(values.get("modalities"), list):
            values = values | {"modalities": tuple(values["modalities"])}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Fusion":
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must name at least one of audio, text, vision, each once")
        if self.frame == "any" and not (self.strategy == "joint" and self.attends):
            raise ValueError(
                "frame any needs a [seg] that attends to the patches of one frame: set strategy to "
                "joint and put vision among the modalities, or set frame to first"
            )
        if self.trajectories and self.strategy != "joint":
            raise ValueError("trajectories are of strategy joint: set one or the other back")
        return self

    @property
    def attends(self) -> bool:
        """Whether there is a [seg] that attends to patches."""
        return self.strategy != "mean" and "vision" in self.modalities


class Loss(Section):
    bce: Weight
    dice: Weight
    attention: Weight
    """Ours: [seg] should attend to the object's patches in the last block; 0 in the paper."""
    pointing: Weight
    """Ours: the prompt should point to the object in SAM 2's own encoding; 0 in the paper."""
    object_score: Weight
    """Ours: supervises SAM 2's object score, so that null is recognised; 0 in the paper."""


class Train(Section):
    processes: Count
    """Processes that train together, each on its own GPU if `runtime.device` is cuda, and each on
    batch_size x accumulation rows per step."""
    engine: Literal["ddp", "zero2"]
    """For several processes: torch's DDP, or DeepSpeed's ZeRO-2."""
    init: Weights | None
    """Start from the weights of a trained model, to fine-tune it or to train on: a folder from
    `sam2love export` or `model/` of another run. Null starts anew."""
    seed: Annotated[int, Field(ge=0)]
    grounding_steps: Annotated[int, Field(ge=0)]
    """Ours: steps at the start, on frame 0 alone and at the full learning rate, for `attention` and
    `pointing`; 0 in the paper."""
    steps: Annotated[int, Field(ge=0)]
    """Steps on all frames with the whole loss, as in the paper."""
    batch_size: Count
    accumulation: Count
    learning_rate: Annotated[float, Field(gt=0)]
    betas: tuple[Fraction, Fraction]
    weight_decay: Weight
    clip_norm: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    loss: Loss

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: dict) -> dict:
        if isinstance(values, dict) and isinstance(values.get("betas"), list):
            values = values | {"betas": tuple(values["betas"])}
        return values


class Propagate(Section):
    rows_per_batch: Count
    """Expressions or objects propagated at once. Bounds memory, and affects rounding."""
    tracker: Literal["trained", "pretrained"]
    """SAM 2's heads on the frames after the prompted one: the trained ones, as in the paper, or
    (ours) the pre-trained ones, which still track."""
    tracking_masks: Literal["configured", "single"]
    """Masks predicted on the frames after the prompted one. `configured` follows SAM 2's own
    configuration; the published ones track with the best of mask tokens 1 to 3. `single` uses
    token 0, the only one that the loss trains."""
    gate: bool
    """Ours: a row whose object score on the prompted frame is not positive is empty, SAM 2's own
    rule for tracked frames. Only `train.loss.object_score` teaches the score to mean that."""


class Score(Section):
    bootstrap: Count
    """Resamples of clips behind each 95 % interval."""
    seed: Annotated[int, Field(ge=0)]


class Config(Section):
    """The parameters that prediction needs: config.json of a folder for `from_pretrained`."""

    audio: Audio
    vision: Vision
    text: Text
    sam2: Sam2
    fusion: Fusion
    propagate: Propagate
    data: Clips

    @model_validator(mode="after")
    def _positions_suffice(self) -> "Config":
        if self.fusion.positions == "learned" and self.text.max_tokens > POSITIONED_TOKENS:
            raise ValueError(
                f"text.max_tokens is {self.text.max_tokens}, but there are learned positions for "
                f"{POSITIONED_TOKENS} tokens only; lower it or set fusion.positions to none"
            )
        return self


class Params(Config):
    """All of params.yaml, one section per concern."""

    data: Data
    runtime: Runtime
    train: Train
    score: Score

    @property
    def labelled_frames(self) -> int:
        """How many frames of a clip the training has labels for."""
        return {"any": self.data.frames, "first": 1}[self.fusion.frame]

    @model_validator(mode="after")
    def _every_step_has_a_loss(self) -> "Params":
        weighted = {name for name, weight in self.train.loss if weight}
        if not self.fusion.attends:
            weighted.discard("attention")
        if not weighted:
            raise ValueError(
                "train.loss has no term to learn from: give bce, dice, pointing or object_score a "
                "weight above 0 (attention applies only if fusion.strategy is not mean and "
                "fusion.modalities has vision)"
            )
        if self.train.grounding_steps and weighted.isdisjoint({"attention", "pointing"}):
            raise ValueError(
                f"train.grounding_steps is {self.train.grounding_steps}, but none of its terms has "
                "a weight: set train.loss.pointing above 0 (or train.loss.attention, if "
                "fusion.strategy is token and fusion.modalities has vision), or grounding_steps to "
                "0"
            )
        return self


Sections = TypeVar("Sections", bound=Config)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Raises:
        ValueError: the file is missing or not a mapping, or a key is unknown, missing, of the wrong
            type or out of range; the message names each such key and what is allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run from the repository's root")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected sections such as 'data:' and 'fusion:'")
    return _validated(Params, values, path)


def read_yaml(path: Path) -> Any:
    """Read a YAML file by YAML 1.2, as DVC does: 1e-05 is a number.

    Raises:
        ValueError: the file is not YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not readable as YAML: {reason}") from None


def load_config(path: str | Path) -> Config:
    """Read and validate the config.json of a pretrained folder.

    Raises:
        ValueError: as `load_params`.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from None
    return _validated(Config, values, path)


def _validated(schema: type[Sections], values: Any, path: Path) -> Sections:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        faults = [
            ": ".join(filter(None, [str(path), ".".join(map(str, fault["loc"])), _describe(fault)]))
            for fault in error.errors(include_url=False)
        ]
        raise ValueError("\n".join(faults)) from None


def _describe(fault: Any) -> str:
    match fault["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "there is no such parameter; sam2love/params.py lists them all"
        case "value_error":  # from our own validators
            return str(fault["ctx"]["error"])
        case _:
            return f"{fault['msg']}, got {fault['input']!r}"
