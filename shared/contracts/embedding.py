"""What an encoder's replica takes and returns: vectors of texts, scores of texts or of pairs of texts.

Each is one request with one answer; `Cancel` (of `shared.contracts.replica`) drops what is not computed yet.
"""

from pydantic import Field, model_validator

from shared.contracts.base import Contract, Endpoint

MAX_ROWS = 64
"""Texts of one message: an answer stays below what the bus carries without an object (64 x 1,536 floats: 512 KiB)."""

BATCH_TOKENS = 1024
"""Tokens, padding included, that a replica computes at once: what its memory need is reckoned with. A longer text is
computed alone."""


class EncoderTimings(Contract):
    """Where the time of one request went inside the replica; seconds."""

    tokenize_s: float = 0.0
    queue_s: float = 0.0
    """From the end of tokenising to the first batch with a row of it."""
    compute_s: float = 0.0
    """From there to the end of the last batch with a row of it."""


class Embed(Contract):
    """Turn texts into vectors. Exactly one of `texts` and `token_ids` is given."""

    request_id: str
    texts: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=MAX_ROWS)
    token_ids: tuple[tuple[int, ...], ...] | None = Field(default=None, min_length=1, max_length=MAX_ROWS)
    """Taken as they are; no special tokens are added."""
    first_index: int = Field(default=0, ge=0)
    """Of the first text in what the client sent, for messages that name a text."""
    truncate: int | None = Field(default=None, ge=1)
    """Tokens, special ones included, that are kept of a longer text. None: a text that does not fit is an error."""
    dimensions: int | None = Field(default=None, ge=1)
    """Numbers kept of each vector, which is then normalised again. None: all."""
    tenant: str = ""
    """Tenants share a replica evenly."""
    time_left_s: float | None = Field(default=None, ge=0)
    """Seconds, from the arrival of this request, after which the answer is of no use. Set at each sending."""

    @model_validator(mode="after")
    def _one_input(self) -> "Embed":
        if (self.texts is None) == (self.token_ids is None):
            msg = "exactly one of texts and token_ids is expected"
            raise ValueError(msg)
        return self


class Embedded(Contract):
    """The vectors, in order."""

    vectors: tuple[str, ...]
    """Each as base64 of little-endian float32, which is what most clients ask the gateway for."""
    tokens: tuple[int, ...]
    """Tokens that were computed for each text."""
    timings: EncoderTimings = EncoderTimings()


class Classify(Contract):
    """Score texts, or pairs of texts (`second` has one for each of `texts`)."""

    request_id: str
    texts: tuple[str, ...] = Field(min_length=1, max_length=MAX_ROWS)
    second: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=MAX_ROWS)
    first_index: int = Field(default=0, ge=0)
    truncate: int | None = Field(default=None, ge=1)
    tenant: str = ""
    time_left_s: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _pairs_match(self) -> "Classify":
        if self.second is not None and len(self.second) != len(self.texts):
            msg = f"second has {len(self.second)} texts for {len(self.texts)} first ones"
            raise ValueError(msg)
        return self


class TokenClass(Contract):
    """The most probable label of one token of a text."""

    start: int
    """The first character of the text that belongs to the token, from 0."""
    end: int
    """The character behind its last."""
    label: str
    score: float


class Classified(Contract):
    """The scores of each text, in the order of `labels`; or, of a classifier of tokens, the classes of its tokens."""

    labels: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...] = ()
    """Empty with a classifier of tokens."""
    token_classes: tuple[tuple[TokenClass, ...], ...] | None = None
    """Of each text, without special tokens. None: the version classifies texts."""
    tokens: tuple[int, ...]
    timings: EncoderTimings = EncoderTimings()


def embed_endpoint(replica_id: str) -> Endpoint[Embed, Embedded]:
    """`embed` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.embed", Embed, Embedded)


def classify_endpoint(replica_id: str) -> Endpoint[Classify, Classified]:
    """`classify` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.classify", Classify, Classified)


EncoderTimings.EXAMPLE = EncoderTimings(tokenize_s=0.0004, queue_s=0.001, compute_s=0.02)
Embed.EXAMPLE = Embed(request_id="embd-1-0", texts=("What is the capital of France?",))
Embedded.EXAMPLE = Embedded(vectors=("AACAPwAAAAA=",), tokens=(9,), timings=EncoderTimings.EXAMPLE)
Classify.EXAMPLE = Classify(request_id="rank-1-0", texts=("capital of France",), second=("Paris is a city.",))
TokenClass.EXAMPLE = TokenClass(start=0, end=5, label="B-LOC", score=0.98)
Classified.EXAMPLE = Classified(
    labels=("relevance",), scores=((0.93,),), tokens=(11,), timings=EncoderTimings.EXAMPLE
)
