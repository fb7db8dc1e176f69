"""What a deployer can set for each replica: a part of `Deploy`, `Deployment` and `ReplicaAssignment`.

To add an option, add a field to `ServingOptions` and read it where it acts. `llmos deploy` makes its command-line
options from the fields and their docstrings, and the scheduler hands them on to the replicas.
"""

from typing import Literal

from pydantic import ConfigDict, Field

from shared.contracts.base import Contract

DRAFT_TOKENS = 7
"""By default; with the row before them they fill one tile of eight rows in LLMOS's own kernels."""
MAX_DRAFT_TOKENS = 15
# More than any machine has. Sums and products of these fit in 64 bits, which is what JSON's readers take.
MAX_TOKENS = 1 << 30
MAX_THREADS = 1 << 16
MAX_BYTES = 1 << 50
MAX_BATCH = 4096

Device = Literal["cpu", "cuda"]
"""What a replica computes on."""


class ServingOptions(Contract):
    """The options as they are asked for; None: not named.

    The scheduler keeps what was named before, or else sets the default; `ReplicaOptions` has the result.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    max_len: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    """Tokens of prompt and answer together. Default: the model's context length, at most 4096, or what fits."""
    slots: int | None = Field(default=None, ge=1, le=1024)
    """Sequences at once in one replica. Default: 16, or what fits the node with most room."""
    threads: int | None = Field(default=None, ge=0, le=MAX_THREADS)
    """CPU threads reserved for each replica, which may then wait for one another actively. Default: 0; a replica
    shares all threads of its node."""
    device: Literal["auto", "cpu", "cuda"] | None = None
    """What to compute on. Default: auto, a GPU if the version has a graph for CUDA and a node has room on one, else a
    CPU."""
    prefix_cache: int | None = Field(default=None, ge=0, le=MAX_BYTES, json_schema_extra={"unit": "bytes"})
    """Memory for earlier prompts in each replica, such as 512MiB; 0: none. Default: a quarter of the memory of the
    slots, at most 1 GiB."""
    share_cache: bool | None = None
    """Whether tenants share the prefix cache and compiled grammars. Whoever may ask can then find out, by the time of
    an answer and its cached_tokens, what others have sent. Default: each tenant has its own part."""
    draft_tokens: int | None = Field(default=None, ge=0, le=MAX_DRAFT_TOKENS)
    """Tokens computed ahead in a step where a text repeats itself (a CPU with LLMOS's own operators); changes no
    answer. 0: none. Default: 7."""
    max_wait: float | None = Field(default=None, ge=1.0, le=86400.0)
    """Seconds that a request may have to wait in a replica's queue; one that would wait longer is refused with 429.
    For models that generate. Default: 120."""
    max_batch: int | None = Field(default=None, ge=1, le=MAX_BATCH)
    """Rows that a graph with named tensors computes at once, or texts that an encoder does; a larger request is
    computed in parts. Default: 32 rows, and as many texts as 1,024 tokens are."""
    max_delay_ms: float | None = Field(default=None, ge=0.0, le=1000.0)
    """Milliseconds that a row or a text may wait for others to be computed with; 0: it waits only while others are
    computed. Default: 0."""
    additional_properties: Literal["closed", "open"] | None = None
    """Whether objects may have properties that their schema does not name, where neither the schema says so
    (additionalProperties) nor the request is strict. closed: as in llama.cpp and xgrammar; open: as JSON schema.
    Default: closed."""


class ReplicaOptions(ServingOptions):
    """The options of a deployment and its replicas: nothing is left for the scheduler to set."""

    max_len: int = Field(ge=1)
    """Tokens of prompt and answer together."""
    slots: int = Field(default=16, ge=1)
    threads: int = Field(default=0, ge=0)
    """Reserved CPU threads; 0: none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    share_cache: bool = False
    draft_tokens: int = Field(default=DRAFT_TOKENS, ge=0)
    max_delay_ms: float = Field(default=0.0, ge=0.0)
    additional_properties: Literal["closed", "open"] = "closed"
    prefix_cache: int = Field(default=0, ge=0)
    """Bytes of keys and values of earlier prompts that one replica may keep; part of its memory. 0: none."""


ServingOptions.EXAMPLE = ServingOptions(slots=8)
ReplicaOptions.EXAMPLE = ReplicaOptions(max_len=4096)
