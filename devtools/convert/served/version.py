"""A folder with a version's files as the parts that it was built from."""

from dataclasses import replace
from pathlib import Path

import onnx
from tokenizers import Tokenizer

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder_version import DecoderModel
from devtools.convert.model_text import ModelText
from devtools.convert.served.architecture import read_architecture
from devtools.convert.served.places import GraphPlaces
from devtools.convert.served.source import ServedSource
from shared.contracts.manifest import DecoderSpec, Manifest
from shared.errors import CorruptFile, UnsupportedFormat
from shared.panics import no_panics

MANIFEST_FILE = "manifest.json"
"""In a folder that stands for a version: what `is_version_folder` looks for."""


def is_version_folder(folder: Path) -> bool:
    """Whether `folder` has a version's files with their manifest."""
    return (folder / MANIFEST_FILE).is_file() and (folder / "model.onnx").is_file()


def read_version(folder: Path, manifest: Manifest | None = None) -> DecoderModel:
    """The parts of a version of a decoder: architecture, weights as they are served, text.

    Args:
        folder: Its files.
        manifest: Its manifest; read from the folder if None.

    Raises:
        UnsupportedFormat: The version is no decoder.
        CorruptFile: A file is damaged or missing, or the graph was not built by LLMOS.
    """
    manifest = manifest or Manifest.decode((folder / MANIFEST_FILE).read_bytes())
    spec = manifest.the_decoder
    architecture, weights = read_graph(folder, spec)
    template = folder / "chat_template.jinja"
    return DecoderModel(
        source=manifest.lineage.source,
        digest=manifest.lineage.source_digest or "",
        architecture=architecture,
        weights=weights,
        text=ModelText(
            tokenizer=_tokenizer(folder / "tokenizer.json"),
            chat_template=template.read_text(encoding="utf-8") if template.exists() else None,
            bos_token_id=spec.bos_token_id,
            add_bos_token=spec.add_bos_token,
            eos_token_ids=spec.eos_token_ids,
            special_tokens=spec.special_tokens,
        ),
        license=manifest.lineage.license,
        defaults=manifest.defaults,
    )


def read_graph(folder: Path, spec: DecoderSpec) -> tuple[Architecture, ServedSource]:
    """What `model.onnx` in `folder` was built from.

    Raises:
        UnsupportedFormat: The graph is older than LLMOS's own operators, or a mixture of experts.
        CorruptFile: The graph is missing, or was not built by LLMOS.
    """
    try:
        model = onnx.load(folder / "model.onnx", load_external_data=False)
    except FileNotFoundError as error:
        raise CorruptFile(f"{folder}: the version's graph model.onnx is missing", param="source") from error
    if not any(node.op_type == "CachedAttention" for node in model.graph.node):
        raise UnsupportedFormat("the version was imported before LLMOS had operators of its own; import it again")
    if any(node.op_type == "RouteExperts" for node in model.graph.node):
        raise UnsupportedFormat(
            "the version is a mixture of experts, which can be served, and neither trained nor exported",
            param="model",
        )
    architecture = read_architecture(model, folder, spec)
    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    sizes = {
        "attn_q": queries,
        "attn_k": keys,
        "attn_v": keys,
        "attn_output": spec.hidden_size,
        "ffn_gate": architecture.feed_forward_size,
        "ffn_up": architecture.feed_forward_size,
        "ffn_down": spec.hidden_size,
    }
    graph = GraphPlaces(model, sizes)
    embedding, head = graph.embedding(), graph.head()
    places = {"token_embd": embedding}
    for layer in range(spec.layers):
        places |= dict(graph.layer(layer))
    tied = embedding.weight == head.weight or _same(ServedSource(model, folder, {"a": embedding, "b": head}))
    if not tied:
        places["output"] = head
    return replace(architecture, tied_head=tied), ServedSource(model, folder, places)


def _tokenizer(path: Path) -> Tokenizer:
    with no_panics(lambda reason: _unreadable(path, reason)):
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the tokenizers library raises no narrower class
            raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> CorruptFile:
    return CorruptFile(f"{path}: the version's tokenizer can't be read: {reason}", param="source")


def _same(source: ServedSource) -> bool:
    """Whether a head of floats is the embedding's matrix, stored a second time for another layout."""
    if source.shape("a") != source.shape("b") or {source.type_name(name) for name in "ab"} != {"F32"}:
        return False
    return bool((source.dequantise("a") == source.dequantise("b")).all())
