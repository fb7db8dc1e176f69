"""A version's manifest and how versions are named.

A reference is `name`, `name:3` or `name@prod`; alone, `name` means its newest version.
"""

import json
import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from shared.contracts.base import Contract
from shared.contracts.smoke_test import SmokeTest
from shared.contracts.tensor import ANY_LENGTH, TensorSpec, TensorType
from shared.errors import UnsupportedFormat

_NAME = r"[a-z0-9]+(?:(?:\.|[_-]+)[a-z0-9]+)*"
NAME_PATTERN = rf"^{_NAME}$"
"""Model, alias, deployment and node names; they also serve as KV keys and as subject tokens (a dot makes two)."""
NAME_LENGTH = 64

NAME_RULE = f"up to {NAME_LENGTH} lower-case letters and digits, joined by '.', '_' or '-'"
"""For messages: what a name must be."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""


class Kind(StrEnum):
    """What has versions. Each kind has names of its own: a model and a dataset may share one."""

    MODEL = "model"
    DATASET = "dataset"
    REPORT = "report"


def is_name(text: str) -> bool:
    """Whether `text` is a `Name`."""
    return len(text) <= NAME_LENGTH and re.fullmatch(_NAME, text) is not None


class ManifestFile(Contract):
    """One file of a version."""

    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=255)]
    digest: Digest
    size: int = Field(ge=0)
    """Bytes."""

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        if ".." in path.split("/") or "//" in path:
            msg = f"path {path!r} must stay inside the version's folder"
            raise ValueError(msg)
        return path


class FileList(Contract):
    """What the manifests of all kinds have: the files of the version."""

    files: tuple[ManifestFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def canonical(self) -> bytes:
        """The manifest as the registry stores it: JSON with sorted keys and nothing to spare. Its SHA-256 names it.

        Raises ValueError for numbers that JSON does not have.
        """
        fields = self.model_dump(mode="json", exclude_none=True)
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @field_validator("files")
    @classmethod
    def _paths_differ(cls, files: tuple[ManifestFile, ...]) -> tuple[ManifestFile, ...]:
        if len({file.path for file in files}) != len(files):
            msg = "two files share a path"
            raise ValueError(msg)
        return files


KvType = Literal["float16", "float32"]
KV_BYTES: dict[KvType, int] = {"float16": 2, "float32": 4}


class DecoderSpec(Contract):
    """What the engine must know about a decoder graph (`model.onnx`).

    Graph inputs, L layers, P slots, B rows of S new tokens each:
        input_ids               int64   [B, S]
        slots                   int32   [B]      the slot of each row (a graph with LLMOS's own attention only)
        seqlens_k               int32   [B]      position of each row's last token
        total_sequence_length   int32   []       the largest such position, plus one
        output_index            int64   [N]      rows of the flattened [B*S] tokens whose logits are computed
        past_key.{l}, past_value.{l}        `kv_type` [P, kv_heads, max_len, head_dim]
    Outputs:
        logits                  float32 [N, vocab_size]
        present_key.{l}, present_value.{l}  as the past; bind to the same memory and they update in place
    With `slots`, rows may lie anywhere and follow one another: a step is S = 1 and B tokens of any sequences. Without
    it (`GroupQueryAttention`), row i has slot i and B is P: either S = 1 with any B, or B = 1 with any S and past.
    """

    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    bos_token_id: int | None = None
    add_bos_token: bool = False
    eos_token_ids: tuple[int, ...] = ()
    special_tokens: dict[str, str] = Field(default_factory=dict)
    """Texts of special tokens by their names in chat templates: `eos_token`, `pad_token`, … Empty: the model has
    none of this name. Versions of older imports have none of them; BOS and EOS are then those of the ids."""

    kv_type: KvType = "float32"
    """Of keys and values. Versions of older imports have float32."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token keeps."""
        return 2 * KV_BYTES[self.kv_type] * self.layers * self.kv_heads * self.head_dim


Task = Literal["generate", "embed", "classify", "transcribe", "tensor"]
"""What a version does: answer with tokens, with a vector per text, with a score per label, write down speech, or
compute named tensors from others."""

EncoderInput = Literal["input_ids", "attention_mask", "token_type_ids", "position_ids"]


class EncoderSpec(Contract):
    """What the runner must know about an encoder graph (`model.onnx`).

    Graph inputs, B texts of at most S tokens, shorter ones padded on the right; those that `inputs` names:
        input_ids           int64   [B, S]      tokens; `pad_token_id` as padding
        attention_mask      int64   [B, S]      1 for a token, 0 for padding
        token_type_ids      int64   [B, S]      0 in the first text of a pair, 1 in the second
        position_ids        int64   [B, S]      0, 1, 2, … (plus `position_offset`)
    Output `output`, float32:
        [B, S, output_size]  a vector per token, pooled as `pooling` says
        [B, output_size]     with pooling "none": the graph pools itself, or has a classifier's head
        [B, S, output_size]  with pooling "tokens": a classifier of tokens
    """

    hidden_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    """Tokens of one text, special tokens included."""
    inputs: tuple[EncoderInput, ...] = ("input_ids", "attention_mask")
    output: str = "last_hidden_state"
    output_size: int = Field(gt=0)
    """Numbers per text: the embedding's dimensions, or the classifier's labels."""
    pooling: Literal["mean", "cls", "last", "none", "tokens"] = "mean"
    normalize: bool = True
    """Whether embeddings have length 1."""
    pad_token_id: int = 0
    position_offset: int = Field(default=0, ge=0)
    """What `position_ids` begin with."""
    labels: tuple[str, ...] = ()
    """Of a classifier, one per output."""
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """Turns a classifier's outputs into scores."""

    @property
    def of_tokens(self) -> bool:
        """Whether it is a classifier of tokens."""
        return self.pooling == "tokens"


TEXT, SCORES, LABEL, EMBEDDING, TOKENS = "text", "scores", "label", "embedding", "tokens"
"""The tensors of an encoder in the Open Inference Protocol."""


def encoder_tensors(spec: EncoderSpec) -> TensorSpec:
    """An encoder with its tokenizer as a graph with named tensors: texts in, embeddings or scores out."""
    text = TensorType(name=TEXT, datatype="BYTES", shape=(ANY_LENGTH,))
    if spec.of_tokens:
        tokens = TensorType(name=TOKENS, datatype="BYTES", shape=(ANY_LENGTH,))
        return TensorSpec(inputs=(text,), outputs=(tokens,), batched=True)
    numbers = TensorType(
        name=SCORES if spec.labels else EMBEDDING, datatype="FP32", shape=(ANY_LENGTH, spec.output_size)
    )
    label = TensorType(name=LABEL, datatype="BYTES", shape=(ANY_LENGTH,))
    return TensorSpec(
        inputs=(text,),
        outputs=(numbers, label) if spec.labels else (numbers,),
        batched=True,
    )


class SpeechSpec(Contract):
    """Of a version that writes down speech (Whisper's kind): its sound and its control tokens."""

    mel_bins: int = Field(gt=0)
    """Bands of the log-mel spectrogram."""
    start_token_id: int
    """Begins each window."""
    languages: dict[str, int] = Field(default_factory=dict)
    """Token ids by language code. Empty: the model knows English alone, and takes neither language nor task."""
    transcribe_token_id: int | None = None
    translate_token_id: int | None = None
    """Asks for English, whatever language is spoken."""
    no_timestamps_token_id: int | None = None
    """None: the model writes no timestamps."""
    timestamp_token_id: int | None = None
    """Stands for 0.00 s; the ids after it for 0.02 s more each."""
    previous_token_id: int | None = None
    """Begins a text that came before, which is context only."""


class Seq2SeqSpec(Contract):
    """What the engine must know about an encoder and a decoder graph (`encoder.onnx`, `decoder.onnx`).

    Encoder, of one source of E places; L is the decoder's layers:
        source              int64 [1, E] token ids, or float32 [1, mel_bins, 2 E] (speech)
        cross_key.{l}, cross_value.{l}      float32 [1, heads, E, head_dim], outputs
    Decoder, B rows of S new tokens each:
        input_ids           int64 [B, S]
        positions           int64 [B]       of each row's first new token: so many places of its past are read
        source_lengths      int64 [B]       places of its source that each row reads (not in a speech model's graph)
        past_key.{l}, past_value.{l}        float32 [B, heads, P, head_dim]
        cross_key.{l}, cross_value.{l}      float32 [B, heads, E, head_dim]
    Outputs:
        logits              float32 [B, vocab_size], after each row's last new token
        new_key.{l}, new_value.{l}          float32 [B, heads, S, head_dim], of the new tokens
    """

    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    """Tokens of an answer, its prefix included; of a text to be read, too."""
    source_length: int = Field(gt=0)
    """Places of one source: tokens of a text, frames of speech after the encoder's convolutions."""
    prefix: tuple[int, ...] = Field(min_length=1)
    """Tokens that each answer begins with, and which are no part of it."""
    eos_token_ids: tuple[int, ...] = ()
    suppressed_token_ids: tuple[int, ...] = ()
    """Never chosen."""
    begin_suppressed_token_ids: tuple[int, ...] = ()
    """Not chosen as an answer's first token."""
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    """So many tokens do not follow one another twice in an answer; 0: they may."""
    speech: SpeechSpec | None = None

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of float32 keys and values of a token's place, in self-attention or in cross-attention."""
        return 2 * 4 * self.layers * self.heads * self.head_dim

    @property
    def text(self) -> DecoderSpec:
        """What the parts that handle texts must know."""
        return DecoderSpec(
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.heads,
            head_dim=self.head_dim,
            hidden_size=self.hidden_size,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            eos_token_ids=self.eos_token_ids,
        )


class MemoryNeed(Contract):
    """What a replica of this version takes, in bytes, of one kind of memory (the host's, or a GPU's)."""

    weights: int = Field(ge=0)
    """Weights and session, resident after load."""
    kv_per_token: int = Field(ge=0)
    activations: int = Field(ge=0)
    """Peak of the largest step. In manifests without `process` the process itself, too."""
    process: int = Field(default=0, ge=0)
    """What is there before a model is loaded: the replica's process and its helper (host), the context (GPU)."""
    per_slot: int = Field(default=0, ge=0)
    """Of each sequence beside its keys and values: its row of logits, and what choosing a token takes."""
    grammars: int = Field(default=0, ge=0)
    """Of structured output, once a request asks for it: the vocabulary, compiled grammars, the process that tries
    new ones. 0 in manifests that are older, and where nothing is structured."""

    def replica_bytes(self, *, slots: int, max_len: int, prefix_cache: int = 0) -> int:
        """The grant that a replica needs whose `slots` sequences all have `max_len` tokens.

        Args:
            slots: Sequences.
            max_len: Tokens of each.
            prefix_cache: Bytes that the prefix cache may hold.
        """
        fixed = self.process + self.weights + self.activations + self.grammars + prefix_cache
        return fixed + slots * (self.per_slot + max_len * self.kv_per_token)


class CudaNeed(Contract):
    """What a replica takes that computes on a GPU."""

    gpu: MemoryNeed
    host: int = Field(ge=0)
    """Bytes of the host's memory, without the prefix cache, which stays there."""


FOLDER_MANIFEST = ".manifest.json"
"""The file of the manifest among the files of a version that a node agent hands to a replica."""


class Lineage(Contract):
    """Where a version came from."""

    source: str
    source_digest: Digest | None = None
    tool: str = ""
    conversion: str = ""
    """The importer's format and the options that it was given: the same source by the same conversion is the same
    version. Empty: the version was trained, or is older than this field."""
    quantization: str = ""
    license: str | None = None
    base: Digest | None = None
    """Of the manifest of the version that training started from."""
    teacher: Digest | None = None
    """Of the manifest of the version whose probabilities it learnt from."""
    datasets: tuple[Digest, ...] = ()
    """Of the manifests of the dataset versions that it was trained on."""
    recipe: Digest | None = None
    """Of the recipe: everything that the training run was told. It is the version's file `recipe.toml`."""
    job: str | None = None
    """The job that made it."""
    code: str = ""
    """Versions of the software that made it: `llmos 0.1.0, torch 2.13.0`."""


_TASKS: dict[str, tuple[Task, ...]] = {
    "onnx-decoder": ("generate",),
    "onnx-encoder": ("embed", "classify"),
    "onnx-seq2seq": ("generate", "transcribe"),
    "onnx-tensor": ("tensor",),
}
"""By format."""


class Manifest(FileList):
    """The JSON that describes a version of a model. Immutable; its SHA-256 names the version."""

    schema_version: Literal[1] = 1
    task: Task = "generate"
    format: Literal["onnx-decoder", "onnx-encoder", "onnx-seq2seq", "onnx-tensor"] = "onnx-decoder"
    decoder: DecoderSpec | None = None
    """Of format `onnx-decoder`."""
    encoder: EncoderSpec | None = None
    """Of format `onnx-encoder`."""
    seq2seq: Seq2SeqSpec | None = None
    """Of format `onnx-seq2seq`."""
    tensor: TensorSpec | None = None
    """Of format `onnx-tensor`."""
    memory: MemoryNeed
    cuda: CudaNeed | None = None
    """Set if the version has a graph for CUDA, `model.cuda.onnx`, beside the one for the CPU."""
    defaults: dict[str, float | int | str] = Field(default_factory=dict)
    """Sampling defaults: temperature, top_p, …, and `max_new_tokens` (`contracts.sampling.version_defaults`)."""
    lineage: Lineage
    metrics: dict[str, float] = Field(default_factory=dict)
    """What was measured at import, e.g. perplexity."""
    smoke_test: SmokeTest | None = None
    """What the version gave at import; None: it is older than such records."""

    @model_validator(mode="after")
    def _one_graph(self) -> Self:
        specs = {
            "onnx-decoder": self.decoder,
            "onnx-encoder": self.encoder,
            "onnx-seq2seq": self.seq2seq,
            "onnx-tensor": self.tensor,
        }
        if [name for name, spec in specs.items() if spec is not None] != [self.format]:
            msg = f"format {self.format} goes with exactly the spec of its kind: decoder, encoder, seq2seq or tensor"
            raise ValueError(msg)
        if self.task not in _TASKS[self.format]:
            msg = f"task {self.task!r} does not go with format {self.format}"
            raise ValueError(msg)
        return self

    @property
    def generates(self) -> bool:
        """Whether it is a decoder alone, whose answers continue their prompts."""
        return self.format == "onnx-decoder"

    @property
    def context_length(self) -> int:
        """Tokens that one sequence may have; 1 where nothing has tokens."""
        if self.tensor is not None:
            return 1
        if self.seq2seq is not None:
            return self.seq2seq.context_length
        return self.the_decoder.context_length if self.generates else self.the_encoder.context_length

    @property
    def text_spec(self) -> DecoderSpec:
        """What the parts that handle texts must know; raises `UnsupportedFormat` for an encoder."""
        return self.the_decoder if self.seq2seq is None else self.seq2seq.text

    @property
    def the_decoder(self) -> DecoderSpec:
        """The decoder's spec; raises `UnsupportedFormat` for an encoder."""
        if self.decoder is None:
            raise UnsupportedFormat(f"the version is an {self.format} for task {self.task!r}; a decoder is needed")
        return self.decoder

    @property
    def the_encoder(self) -> EncoderSpec:
        """The encoder's spec; raises `UnsupportedFormat` for a decoder."""
        if self.encoder is None:
            raise UnsupportedFormat(f"the version is an {self.format} for task {self.task!r}; an encoder is needed")
        return self.encoder

    @property
    def the_tensor(self) -> TensorSpec:
        """The spec of a graph with named tensors; raises `UnsupportedFormat` for another version."""
        if self.tensor is None:
            raise UnsupportedFormat(f"the version is an {self.format} for task {self.task!r}; tensors are needed")
        return self.tensor


_REFERENCE = re.compile(rf"(?P<name>{_NAME})(?::(?P<version>[0-9]{{1,9}})|@(?P<alias>{_NAME}))?")


_ZEROES = {"0" * length for length in range(1, 10)}
"""No version has this number."""


class Reference(Contract):
    """A parsed reference: at most one of `version` and `alias`."""

    name: Name
    version: int | None = Field(default=None, ge=1)
    alias: Name | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """`name`, `name:3` or `name@prod`; raises ValueError naming the three forms."""
        match = _REFERENCE.fullmatch(text)
        names = match.group("name", "alias") if match else ()
        if match is None or not all(is_name(name) for name in names if name) or match["version"] in _ZEROES:
            msg = f"{text!r} is not a model reference; expected 'name', 'name:3' or 'name@alias' in lower case"
            raise ValueError(msg)
        version = match["version"]
        return cls(name=match["name"], version=int(version) if version else None, alias=match["alias"])

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}:{self.version}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


ManifestFile.EXAMPLE = ManifestFile(path="model.onnx", digest="ab" * 32, size=1024)
FileList.EXAMPLE = FileList(files=(ManifestFile.EXAMPLE,))
DecoderSpec.EXAMPLE = DecoderSpec(
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    hidden_size=576,
    vocab_size=49152,
    context_length=8192,
    bos_token_id=1,
    eos_token_ids=(2,),
)
EncoderSpec.EXAMPLE = EncoderSpec(
    hidden_size=384,
    vocab_size=30522,
    context_length=256,
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    output_size=384,
)
SpeechSpec.EXAMPLE = SpeechSpec(
    mel_bins=80, start_token_id=50257, no_timestamps_token_id=50362, timestamp_token_id=50363
)
Seq2SeqSpec.EXAMPLE = Seq2SeqSpec(
    layers=6,
    heads=8,
    head_dim=64,
    hidden_size=512,
    vocab_size=32128,
    context_length=512,
    source_length=512,
    prefix=(0,),
    eos_token_ids=(1,),
)
MemoryNeed.EXAMPLE = MemoryNeed(
    weights=135_000_000, kv_per_token=46080, activations=40_000_000, process=180_000_000, per_slot=2_000_000
)
CudaNeed.EXAMPLE = CudaNeed(
    gpu=MemoryNeed(weights=120_000_000, kv_per_token=23040, activations=60_000_000, process=600_000_000),
    host=1_500_000_000,
)
Lineage.EXAMPLE = Lineage(source="SmolLM2-135M-Instruct.Q4_1.gguf", tool="devtools.convert", quantization="Q4_1")
Manifest.EXAMPLE = Manifest(
    files=(ManifestFile.EXAMPLE,),
    decoder=DecoderSpec.EXAMPLE,
    memory=MemoryNeed.EXAMPLE,
    lineage=Lineage.EXAMPLE,
)
Reference.EXAMPLE = Reference(name="smollm2", alias="prod")
