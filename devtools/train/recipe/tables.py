"""The tables of a recipe."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Target = Literal["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]


class Table(BaseModel):
    """Frozen, finite numbers only, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Optimizer(Table):
    """AdamW."""

    learning_rate: float | None = Field(default=None, gt=0)
    """The highest. None: 1e-3 for an adapter, 5e-5 for full weights, 3e-3 from scratch."""
    weight_decay: float = Field(default=0.0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    """The largest norm of the gradient."""


class Schedule(Table):
    """How the learning rate rises and falls."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which it rises."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Share of the highest that it falls to."""


class AdapterTable(Table):
    """LoRA."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[Target, ...] = Field(
        default=("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), min_length=1
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    dora: bool = False
    rslora: bool = False
    """Whether the difference is scaled by alpha / sqrt(rank) instead of alpha / rank."""


class Scratch(Table):
    """A new model."""

    size: Literal["nano", "micro", "small"] = "nano"
    vocab: int = Field(default=2048, ge=300)
    """Tokens of the tokenizer that is trained on the rows."""


class Dpo(Table):
    """Direct preference optimisation."""

    beta: float = Field(default=0.1, gt=0)
    nll: float = Field(default=1.0, ge=0)
    """Weight of the chosen answer's negative log likelihood: without it a model prefers an answer and does not write
    it."""


class Distil(Table):
    """Learning from a teacher's probabilities."""

    temperature: float = Field(default=2.0, gt=0)
    hard: float = Field(default=0.0, ge=0, le=1)
    """Share of the loss that is the answer's own negative log likelihood."""


class Validation(Table):
    """Rows that are not trained on."""

    share: float = Field(default=0.0, ge=0, lt=1)
    """Of the rows, chosen by their ids."""
    every: int = Field(default=50, ge=1)
    """Steps."""
    stop_after: int = Field(default=0, ge=0)
    """Validations without a lower loss after which the run ends. 0: it never ends early."""


class Equalise(Table):
    """A loss on the difference of the log probabilities of two words where one of them follows (1905.12801)."""

    weight: float = Field(gt=0)
    words: tuple[tuple[str, str], ...] = Field(min_length=1)
    among: tuple[str, ...] = ()
    """Only in rows with one of these words; empty: in all."""


class Reverse(Equalise):
    """An adversary that tells from the hidden state which of two words follows; its gradient is reversed."""

    learning_rate: float = Field(default=1e-2, gt=0)
    """The adversary's."""


class Robust(Table):
    """Regularisation and adversarial training. What they do to bias: docs/bias.md."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the outputs of attention and MLP."""
    rdrop: float = Field(default=0.0, ge=0)
    """Weight of the divergence between two passes with other dropout (2106.14448)."""
    neftune: float = Field(default=0.0, ge=0)
    """Size of the noise on embeddings (2310.05914)."""
    fgm: float = Field(default=0.0, ge=0)
    """Length of the adversarial step on embeddings (1605.07725)."""
    freelb: float = Field(default=0.0, ge=0)
    """Length of each of several adversarial steps on embeddings (1909.11764)."""
    freelb_steps: int = Field(default=2, ge=1)
    equalise: Equalise | None = None
    reverse: Reverse | None = None


class Compute(Table):
    """How a step is computed. Changes rounding and speed, not what is learnt."""

    micro_tokens: int = Field(default=1024, ge=1)
    """Tokens that are in memory at once, padding included; a longer row is alone."""
    packing: Literal["auto", "yes", "no"] = "auto"
    """Whether several rows share a line of a batch, each seeing itself and what all begin with. auto: where that
    saves a fifth of the tokens."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 products where the processor has them."""
