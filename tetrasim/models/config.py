"""`ModelConfig`: the dimensions of one transformer, checked, and nothing else.

A config says what the published model is; `transformer.py` builds it in torch, `parameters.py` counts its
parameters in closed form, `presets/*.yaml` hold the known ones. Reading and checking needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tetrasim.errors import UserError, nearest

Positive = Annotated[int, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tokens(_Frozen):
    """Token ids through an embedding table; `segments` > 0 adds BERT's segment table."""

    kind: Literal["tokens"] = "tokens"
    vocab: Positive
    segments: int = Field(0, ge=0)


class Patches(_Frozen):
    """A square image cut into patches by a strided convolution."""

    kind: Literal["patches"] = "patches"
    image: Positive
    patch: Positive
    channels: Positive
    class_token: bool = True

    @property
    def tokens(self) -> int:
        return (self.image // self.patch) ** 2 + int(self.class_token)


class Features(_Frozen):
    """A fixed number of feature vectors (jets, time series, patches cut beforehand); `project` adds the
    linear layer to the model width, otherwise the width is the number of features."""

    kind: Literal["features"] = "features"
    tokens: Positive
    features: Positive
    project: bool = True


class LmHead(_Frozen):
    """Logits over the vocabulary; `tied` shares the embedding table."""

    kind: Literal["lm"] = "lm"
    tied: bool = True


class Classifier(_Frozen):
    """`token_width` > 0: a dense layer with the head's activation per token first; then pool the tokens,
    dense layers of `hidden` widths, and `classes` outputs through `output`."""

    kind: Literal["classifier"] = "classifier"
    classes: Positive
    pool: Literal["cls", "mean", "flatten"] = "cls"
    token_width: int = Field(0, ge=0)
    hidden: tuple[Positive, ...] = ()
    activation: Literal["relu", "gelu"] = "relu"
    output: Literal["none", "softmax", "sigmoid"] = "none"


class Pooler(_Frozen):
    """BERT's head: every token's state, and tanh(dense(first token))."""

    kind: Literal["pooler"] = "pooler"


class ModelConfig(_Frozen):
    """One model. `heads * head_dim` need not equal `width`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]  # it names folders
    title: str = ""
    source: str = ""
    published_parameters: int | None = None
    architecture: Literal["decoder", "encoder"]
    width: Positive
    layers: Annotated[int, Field(gt=0, le=2048)]  # a slip of the keyboard must not build for hours
    heads: Positive
    kv_heads: int = Field(0, ge=0, description="0: as many as heads")
    head_dim: int = Field(0, ge=0, description="0: width / heads")
    fused_qkv: bool = Field(False, description="one projection for q, k and v, as the original code has")
    attention_bias: bool = True
    ffn_width: Positive
    gated: bool = False
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "gelu"
    ffn_bias: bool = True
    norm: Literal["layer", "rms", "none"] = "layer"
    norm_first: bool = True
    norm_epsilon: float = Field(1e-5, gt=0, allow_inf_nan=False)
    final_norm: bool = True
    embedding_norm: bool = False
    residual: Literal["standard", "nested"] = Field(
        "standard", description="nested: x + (a + ffn(a)) with a = attention(x)"
    )
    positions: Literal["learned", "rotary", "none"] = "learned"
    merge_after: int = Field(
        0, ge=0, description="average groups of neighbouring tokens after this many blocks; 0: never"
    )
    merge_size: int = Field(2, ge=2, description="tokens of a merged group")
    context: int = Field(0, ge=0, description="the longest sequence of a token model")
    rope_theta: float = Field(10000.0, gt=0, allow_inf_nan=False)
    input: Annotated[Tokens | Patches | Features, Field(discriminator="kind")]
    head: Annotated[LmHead | Classifier | Pooler, Field(discriminator="kind")]

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        filled = dict(data)
        heads = filled.get("heads")
        if not filled.get("kv_heads"):
            filled["kv_heads"] = heads
        width = filled.get("width")
        if not filled.get("head_dim") and isinstance(heads, int) and isinstance(width, int) and heads > 0:
            if width % heads:
                raise ValueError(f"width {width} is not a multiple of heads {heads}: give head_dim")
            filled["head_dim"] = width // heads
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if isinstance(self.input, Features) and not self.input.project and self.input.features != self.width:
            raise ValueError(
                f"without input.project, width {self.width} must be input.features {self.input.features}"
            )
        if isinstance(self.input, Patches) and self.input.image % self.input.patch:
            raise ValueError(f"image {self.input.image} is not a multiple of patch {self.input.patch}")
        if isinstance(self.input, Tokens) and not self.context:
            raise ValueError("a token model needs context, its longest sequence")
        if self.architecture == "decoder" and not (
            isinstance(self.input, Tokens) and isinstance(self.head, LmHead)
        ):
            raise ValueError("a decoder has input kind 'tokens' and head kind 'lm'")
        if isinstance(self.head, LmHead) and self.architecture == "encoder":
            raise ValueError("head kind 'lm' belongs to architecture 'decoder'")
        if isinstance(self.head, Classifier) and self.head.pool == "flatten" and not self.tokens:
            raise ValueError("pool 'flatten' needs a fixed number of tokens")
        return self

    @model_validator(mode="after")
    def _mergeable(self) -> ModelConfig:
        if not self.merge_after:
            return self
        if self.merge_after > self.layers:
            raise ValueError(f"merge_after {self.merge_after} is beyond the {self.layers} layers")
        if not self.tokens or self.tokens % self.merge_size:
            raise ValueError(
                f"merge_after needs an encoder with a fixed number of tokens, a multiple of {self.merge_size}"
            )
        return self

    @property
    def causal(self) -> bool:
        return self.architecture == "decoder"

    @property
    def tokens(self) -> int:
        """Tokens of one input where the input fixes them, else 0 (a token model: any up to `context`)."""
        return 0 if isinstance(self.input, Tokens) else self.input.tokens

    @property
    def final_tokens(self) -> int:
        """`tokens` after merging: what the head sees."""
        return self.tokens // self.merge_size if self.merge_after else self.tokens

    @property
    def longest(self) -> int:
        """The longest sequence the model accepts."""
        return self.tokens or self.context

    def replace(self, **changes: Any) -> ModelConfig:
        """A checked copy with other dims; `head_dim` and `kv_heads` follow unless they were decoupled.

        Raises:
            UserError: for a name or value that the model does not take.
        """
        data = self.model_dump()
        if self.head_dim * self.heads == self.width and "head_dim" not in changes:
            data["head_dim"] = 0
        if self.kv_heads == self.heads and "kv_heads" not in changes:
            data["kv_heads"] = 0
        return parse_config({**data, **changes}, where=f"model '{self.name}'")


def parse_config(data: Mapping[str, Any], *, where: str) -> ModelConfig:
    """Check `data` (a preset file's content).

    Raises:
        UserError: naming the key and the nearest valid one.
    """
    try:
        return ModelConfig.model_validate(data)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), ModelConfig.model_fields)
            raise UserError(f"unknown model key '{key}'", where=where, hint=hint) from None
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{f'{key}: ' if key else ''}{message}", where=where, hint="see docs/models.md for the keys"
        ) from None
