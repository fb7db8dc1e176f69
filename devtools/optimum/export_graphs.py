"""Exports a checkpoint as two ONNX graphs, with optimum. Runs in the tool's environment, never in LLMOS's own.

    python -P export_graphs.py SOURCE DESTINATION

Writes `encoder.onnx`, `decoder.onnx`, `tokenizer.json`, `reference.npz` and `facts.json`. An error that a person
can mend is one line on standard error, with exit code 3.

optimum's own graphs take one length for all rows of a batch, so sequences at different places could not be computed
together. `Decoder` below gives each row its own: what is left of a row's cache is masked, and positions (absolute, or
T5's relative ones) are computed for each row.
"""

import json
import os
import sys
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from optimum.exporters.onnx.base import OnnxConfig
from optimum.exporters.onnx.convert import export_pytorch
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedConfig
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoTokenizer
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

Axes = dict[str, dict[int, str]]
"""Of each input or output, the axes of any length, by their names."""

OPSET = 17
TEXT, SPEECH = "text2text-generation", "automatic-speech-recognition"
TASKS = {"t5": TEXT, "mt5": TEXT, "bart": TEXT, "marian": TEXT, "whisper": SPEECH}
_NEVER = -1e6
"""A log probability that no segmentation of a text prefers."""
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.sendto")


class Refused(Exception):
    """A checkpoint that can't be exported; its message is for a person."""


class RowPositions(nn.Module):
    """Absolute position embeddings, looked up by a position for each row.

    Args:
        inner: The model's own embeddings.
    """

    def __init__(self, inner: nn.Embedding) -> None:
        super().__init__()
        self.inner = inner
        self.offset = getattr(inner, "offset", 0)
        self.positions = torch.zeros(1, 1, dtype=torch.int64)
        """int64 [B, S], set before each call."""

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """float32 [B, S, hidden]."""
        return nn.functional.embedding(self.positions + self.offset, self.inner.weight)


class Encoder(nn.Module):
    """From a source to the keys and values that the decoder's cross-attention reads.

    Args:
        model: The whole model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.encoder = model.get_encoder()

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        """`source`: token ids [1, E], or log-mel features [1, mels, frames]; returns 2 * layers of [1, H, E, D]."""
        states = self.encoder(source)[0]
        outputs = []
        for key, value, heads, _ in cross_projections(self.model):
            outputs += [part(states).view(1, states.shape[1], heads, -1).transpose(1, 2) for part in (key, value)]
        return tuple(outputs)


class Decoder(nn.Module):
    """New tokens of several sequences, each at its own place.

    Args:
        model: The whole model; its position embeddings are replaced.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.layers = len(cross_projections(model))
        self.rows: RowPositions | None = None
        decoder = model.get_decoder()
        if hasattr(decoder, "embed_positions"):
            self.rows = decoder.embed_positions = RowPositions(decoder.embed_positions)
        self._bias: tuple[Tensor, Tensor] | None = None
        for module in decoder.modules():
            if getattr(module, "has_relative_attention_bias", False):
                module.compute_bias = MethodType(self._compute_bias, module)

    def forward(
        self, input_ids: Tensor, positions: Tensor, source_lengths: Tensor, caches: tuple[Tensor, ...]
    ) -> Any:
        """The logits after the last token of each row, and the keys and values of the new tokens.

        Args:
            input_ids: int64 [B, S].
            positions: int64 [B], of each row's first new token; as many of its cache's places are filled.
            source_lengths: int64 [B], how much of its source each row has.
            caches: Keys and values of self-attention [B, H, P, D], then those of cross-attention [B, H, E, D].
        """
        pasts, crosses = caches[: 2 * self.layers], caches[2 * self.layers :]
        count, past = input_ids.shape[1], pasts[0].shape[2]
        steps, places = torch.arange(count), torch.arange(past)
        here = positions[:, None] + steps[None, :]
        filled = (places[None, None, :] < positions[:, None, None]).expand(-1, count, -1)
        before = (steps[None, None, :] <= steps[None, :, None]).expand(input_ids.shape[0], -1, -1)
        seen = torch.cat([filled, before], dim=2)[:, None]
        mask = torch.where(seen, torch.zeros(()), torch.full((), torch.finfo(torch.float32).min))
        keys = torch.cat([places[None, :].expand(input_ids.shape[0], -1), here], dim=1)
        self._bias = (keys, here)
        if self.rows is not None:
            self.rows.positions = here
        length = crosses[0].shape[2]
        source = (torch.arange(length)[None, :] < source_lengths[:, None]).to(torch.int64)
        states = crosses[0][:, 0, :, :1].expand(-1, -1, self.config.hidden_size)  # read for its shape only
        inputs = {} if self.config.model_type == "whisper" else {"attention_mask": source}
        cache = EncoderDecoderCache(_filled(pasts), _filled(crosses))
        cache.is_updated = dict.fromkeys(range(self.layers), True)
        logits = self.model(
            encoder_outputs=(states,),
            decoder_input_ids=input_ids,
            decoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **inputs,
        ).logits
        new = []
        for layer in cache.self_attention_cache.layers:
            new += [layer.keys[:, :, past:], layer.values[:, :, past:]]
        return (logits[:, -1], *new)

    def _compute_bias(self, attention: Any, *_: Any, **__: Any) -> Tensor:
        assert self._bias is not None
        keys, queries = self._bias
        buckets = attention._relative_position_bucket(  # noqa: SLF001  # the model's own, with our positions
            keys[:, None, :] - queries[:, :, None],
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        return attention.relative_attention_bias(buckets).permute(0, 3, 1, 2)


def cross_projections(model: Any) -> list[tuple[nn.Module, nn.Module, int, int]]:
    """Of each decoder layer's cross-attention: key, value, heads and the size of a head."""
    decoder = model.get_decoder()
    if hasattr(decoder, "block"):
        attentions = [block.layer[1].EncDecAttention for block in decoder.block]
        return [(each.k, each.v, each.n_heads, each.key_value_proj_dim) for each in attentions]
    attentions = [layer.encoder_attn for layer in decoder.layers]
    return [(each.k_proj, each.v_proj, each.num_heads, each.head_dim) for each in attentions]


def _filled(tensors: tuple[Tensor, ...]) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = []
    for key, value in zip(tensors[::2], tensors[1::2], strict=True):
        layer = DynamicLayer()
        layer.dtype, layer.device, layer.is_initialized = key.dtype, key.device, True
        layer.keys, layer.values = key, value
        cache.layers.append(layer)
    return cache


class _Unpatched:
    """Where optimum patches a model for tracing: `Encoder` and `Decoder` are traceable as they are."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class _PartConfig(OnnxConfig):
    """How optimum exports one part: its named inputs with example values, and its outputs."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig
    inputs: Axes = {}  # noqa: RUF012  # properties of the base class, each set below
    outputs: Axes = {}  # noqa: RUF012  # as above
    values_override = None

    def __init__(self, config: Any, inputs: Axes, outputs: Axes) -> None:
        super().__init__(config)
        self.inputs, self.outputs = inputs, outputs

    def ordered_inputs(self, _: nn.Module) -> Axes:
        return self.inputs

    def patch_model_for_export(self, _: nn.Module, **__: Any) -> _Unpatched:
        return _Unpatched()


def names_of(layers: int, prefix: str) -> list[str]:
    """Names of keys and values: `past_key.0`, `past_value.0`, `past_key.1`, and so on."""
    return [f"{prefix}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


def main(source: Path, destination: Path) -> None:
    """Export the checkpoint in `source`; raises `Refused`."""
    config = _read_json(source / "config.json")
    kind = config.get("model_type")
    if kind not in TASKS:
        raise Refused(f"config.json: model_type {kind!r} is not exported; supported are {', '.join(TASKS)}")
    _say("read", 0.0)
    model = TasksManager.get_model_from_task(
        TASKS[kind],
        str(source),
        framework="pt",
        library_name="transformers",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="eager",
        dtype=torch.float32,
    ).eval()
    model.requires_grad_(requires_grad=False)
    _say("build", 0.0)
    example = _example_source(model, 7)
    with torch.no_grad():
        expected = _reference(model)
        _export(Encoder(model), {"source": example}, destination / "encoder.onnx", encoder_axes(model))
        _say("build", 0.4)
        _export(*_decoder_example(model, example), destination / "decoder.onnx", decoder_axes(model))
    np.savez(destination / "reference.npz", **expected)
    write_tokenizer(source, destination)
    (destination / "facts.json").write_text(json.dumps(facts(model)))
    _say("build", 1.0)


def write_tokenizer(source: Path, destination: Path) -> None:
    """Write `tokenizer.json`: the checkpoint's, else made of its SentencePiece models."""
    if (source / "tokenizer.json").is_file():
        (destination / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
        return
    if (source / "source.spm").is_file():
        marian_tokenizer(source).save(str(destination / "tokenizer.json"))
        return
    fast = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False, use_fast=True)
    if not fast.is_fast:
        raise Refused("the checkpoint has no tokenizer.json, and its tokenizer can't be written as one")
    fast.backend_tokenizer.save(str(destination / "tokenizer.json"))


def marian_tokenizer(source: Path) -> Tokenizer:
    """Marian's: pieces by `source.spm`, ids by `vocab.json`, which has the target's pieces too."""
    vocab = _read_json(source / "vocab.json")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise Refused("vocab.json: ids are not 0, 1, 2, …")
    proto = ModelProto()
    proto.ParseFromString((source / "source.spm").read_bytes())
    scores = {piece.piece: piece.score for piece in proto.pieces}
    pieces = [(piece, scores.get(piece, _NEVER)) for piece in sorted(vocab, key=vocab.__getitem__)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=vocab["<unk>"], byte_fallback=False))
    steps: list[Any] = [normalizers.Replace(Regex(" {2,}"), " ")]
    if charsmap := proto.normalizer_spec.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.add_special_tokens([token for token in ("</s>", "<unk>", "<pad>") if token in vocab])
    languages = [AddedToken(token, normalized=False) for token in vocab if token[:2] == ">>" and token[-2:] == "<<"]
    tokenizer.add_tokens(languages)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocab["</s>"])]
    )
    return tokenizer


def encoder_axes(model: Any) -> Any:
    """Inputs and outputs of the encoder's graph, with their axes of any length."""
    outputs = {name: {2: "source_length"} for name in names_of(len(cross_projections(model)), "cross")}
    return {"source": {} if model.config.model_type == "whisper" else {1: "source_length"}}, outputs


def decoder_axes(model: Any) -> Any:
    """Inputs and outputs of the decoder's graph, with their axes of any length."""
    layers = len(cross_projections(model))
    rows = {0: "rows"}
    inputs = {"input_ids": {0: "rows", 1: "tokens"}, "positions": rows, "source_lengths": rows}
    inputs |= {name: {0: "rows", 2: "past_length"} for name in names_of(layers, "past")}
    inputs |= {name: {0: "rows", 2: "source_length"} for name in names_of(layers, "cross")}
    return inputs, {"logits": rows} | {name: {0: "rows", 2: "tokens"} for name in names_of(layers, "new")}


def facts(model: Any) -> dict[str, Any]:
    """What LLMOS must know besides the graphs."""
    config = model.config
    _, _, heads, head_size = cross_projections(model)[0]
    speech = config.model_type == "whisper"
    generation = {k: v for k, v in model.generation_config.to_diff_dict().items() if v is not None}
    return {
        "model_type": config.model_type,
        "layers": len(cross_projections(model)),
        "heads": heads,
        "head_dim": head_size,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "mel_bins": config.num_mel_bins if speech else 0,
        "source_positions": config.max_source_positions if speech else _positions(config),
        "positions": config.max_target_positions if speech else _positions(config),
        "parameters": sum(each.numel() for each in model.parameters()),
        "generation": generation,
    }


def _positions(config: Any) -> int:
    """Tokens that a text may have: of T5, whose positions are relative, what its checkpoints were trained with."""
    return int(getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0) or 512)


def _example_source(model: Any, length: int) -> Tensor:
    torch.manual_seed(length)
    if model.config.model_type == "whisper":
        return torch.randn(1, model.config.num_mel_bins, 2 * model.config.max_source_positions)
    return torch.randint(3, model.config.vocab_size, (1, length))


def _decoder_example(model: Any, source: Tensor) -> tuple[nn.Module, dict[str, Any]]:
    crosses = [tensor.repeat(2, 1, 1, 1) for tensor in Encoder(model)(source)]
    pasts = [torch.randn(2, each.shape[1], 5, each.shape[3]) for each in crosses]
    inputs = {
        "input_ids": torch.tensor([[3, 4], [5, 6]]),
        "positions": torch.tensor([5, 3]),
        "source_lengths": torch.tensor([source.shape[-1], 4]),
        "caches": (*pasts, *crosses),
    }
    return Decoder(model), inputs


def _reference(model: Any) -> dict[str, Any]:
    """The unchanged model's logits for two sources of different lengths, each with its own tokens."""
    arrays: dict[str, Any] = {}
    for index, (length, tokens) in enumerate(((9, [3, 4, 5, 6, 7]), (5, [8, 9]))):
        source = _example_source(model, length)
        ids = torch.tensor([tokens])
        name = "input_features" if model.config.model_type == "whisper" else "input_ids"
        logits = model(**{name: source}, decoder_input_ids=ids, use_cache=False).logits
        arrays |= {
            f"source.{index}": source.numpy(),
            f"tokens.{index}": ids.numpy(),
            f"logits.{index}": logits.numpy(),
        }
    return arrays


def _export(part: nn.Module, inputs: dict[str, Any], path: Path, axes: Any) -> None:
    config = _PartConfig(part.config, *axes)
    config.generate_dummy_inputs = lambda **_: inputs
    export_pytorch(part, config, OPSET, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path.name} can't be read: {error}") from error
    if not isinstance(read, dict):
        raise Refused(f"{path.name} is not a JSON object")
    return read


def _say(stage: str, part: float) -> None:
    print(json.dumps({"stage": stage, "part": part}), flush=True)  # noqa: T201  # read by `devtools.optimum.export`


def _no_network(event: str, _: object) -> None:
    if event in _NETWORK:
        raise Refused(f"the export tried to use the network ({event}); it works on local files alone")


if __name__ == "__main__":
    sys.addaudithook(_no_network)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (Refused, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(3)
