"""What a file of a model can do: an import reads its folder and nothing else, and no memory beyond what it needs."""

import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest

from devtools.convert import convert_encoder, convert_gguf, convert_hf
from devtools.convert.gguf.file import read_gguf
from devtools.convert.hf.safetensors_file import read_safetensors
from shared.errors import CorruptFile, InvalidInput
from tests.support.models.hf_files import write_hf
from tests.support.models.llama_files import write_llama
from tests.support.models.small_encoder import write_small_encoder
from tests.support.models.small_model import write_small_gguf

MIB = 1 << 20


def exported(folder: Path) -> Path:
    """An encoder as exporters write it: a graph with its weights beside it."""
    source = write_small_encoder(folder / "encoder")
    convert_encoder(source, folder / "built")
    (source / "model.safetensors").unlink()
    (source / "onnx").mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        shutil.move(folder / "built" / name, source / "onnx" / name)
    return source


def decoder(folder: Path) -> Path:
    source = write_hf(folder / "decoder", write_small_gguf(folder / "small.gguf"), shards=2)
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (source / "README.md").write_text("---\nlicense: mit\n---")
    (source / "generation_config.json").write_text("{}")
    return source


def move_out(path: Path, outside: Path) -> None:
    """A link in the place of a file or folder, which is elsewhere now; its content is a proper one."""
    outside.mkdir(exist_ok=True)
    target = outside / path.name
    shutil.move(path, target)
    path.symlink_to(target)


DECODER = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
           "README.md", "model.safetensors.index.json", "model-00002-of-00002.safetensors"]  # fmt: skip
ENCODER = ["config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx.data", "onnx", "modules.json",
           "1_Pooling", "1_Pooling/config.json"]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "convert", "name"),
    [(decoder, convert_hf, name) for name in DECODER] + [(exported, convert_encoder, name) for name in ENCODER],
)
def test_a_link_out_of_the_folder_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Path], convert: Callable[[Path, Path], object], name: str
) -> None:
    source = make(tmp_path)
    move_out(source / name, tmp_path / "outside")
    with pytest.raises(InvalidInput, match=f"{name} leads to .* reads its folder and nothing else"):
        convert(source, tmp_path / "version")
    assert not (tmp_path / "version").exists()


def test_a_secret_beside_a_graph_reaches_no_version(tmp_path: Path) -> None:
    source = exported(tmp_path)
    data = source / "onnx" / "model.onnx.data"
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * data.stat().st_size)
    data.unlink()
    data.symlink_to("../../secret")
    with pytest.raises(InvalidInput, match="secret"):
        convert_encoder(source, tmp_path / "version")


def test_links_within_the_folder_and_into_the_hubs_blobs_are_followed(tmp_path: Path) -> None:
    source = decoder(tmp_path)
    repository = tmp_path / "models--org--name"
    snapshot, blobs = repository / "snapshots" / "c0ffee", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.move(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    assert convert_hf(snapshot, tmp_path / "version").files
    (tmp_path / "secret").write_text("{}")
    (blobs / "bad").symlink_to(tmp_path / "secret")
    (snapshot / "special_tokens_map.json").symlink_to("../../blobs/bad")
    with pytest.raises(InvalidInput, match="special_tokens_map"):
        convert_hf(snapshot, tmp_path / "other")


def test_a_part_of_a_gguf_lies_beside_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write_llama(folder / "model.gguf", split_tensors=8)
    parts = sorted(folder.glob("*.gguf"))
    move_out(parts[1], tmp_path / "outside")
    with pytest.raises(InvalidInput, match=parts[1].name):
        convert_gguf(parts[0], tmp_path / "version")


def test_a_pipe_in_the_folder_does_not_stop_an_import(tmp_path: Path) -> None:
    source = decoder(tmp_path)
    (source / "generation_config.json").unlink()
    os.mkfifo(source / "generation_config.json")
    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        convert_hf(source, tmp_path / "version")


def change_graph(source: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    path = source / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model.graph)
    path.write_bytes(model.SerializeToString())


def external(graph: onnx.GraphProto) -> onnx.TensorProto:
    return next(tensor for tensor in graph.initializer if tensor.external_data)


def hidden_in_a_node(graph: onnx.GraphProto) -> None:
    tensor = onnx.TensorProto()
    tensor.CopyFrom(external(graph))
    tensor.external_data[0].value = "../../secret"
    graph.node.insert(0, onnx.helper.make_node("Constant", [], ["secret"], value=tensor))


def hidden_in_a_branch(graph: onnx.GraphProto) -> None:
    inner = onnx.GraphProto(name="branch")
    hidden_in_a_node(graph)
    inner.node.append(graph.node[0])
    del graph.node[0]
    graph.node.insert(0, onnx.helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))


def larger_than_its_file(graph: onnx.GraphProto) -> None:
    external(graph).dims[0] = 1 << 40


def beyond_its_file(graph: onnx.GraphProto) -> None:
    next(entry for entry in external(graph).external_data if entry.key == "offset").value = str(1 << 40)


@pytest.mark.parametrize("change", [hidden_in_a_node, hidden_in_a_branch, larger_than_its_file, beyond_its_file])
def test_weights_of_a_graph_lie_in_files_beside_it_that_hold_them(
    tmp_path: Path, change: Callable[[onnx.GraphProto], None]
) -> None:
    source = exported(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(100_000))
    change_graph(source, change)
    with pytest.raises(CorruptFile, match=r"secret|lies in bytes"):
        convert_encoder(source, tmp_path / "version")


@contextmanager
def little_memory(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def gguf_with_array(path: Path, kind: int, count: int, size: int, name: bytes = b"general.tags") -> Path:
    """One metadata entry: an array of zeros, which take no room on the disk."""
    head = b"GGUF" + struct.pack(f"<IQQQ{len(name)}sIIQ", 3, 0, 1, len(name), name, 9, kind, count)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + count * size)
    return path


def test_arrays_of_a_gguf_without_use_are_stepped_over(tmp_path: Path) -> None:
    with little_memory(8 * MIB):
        found = read_gguf(gguf_with_array(tmp_path / "numbers.gguf", 4, 200_000_000, 4))
        assert "general.tags" not in found.metadata
        assert "general.tags" not in read_gguf(gguf_with_array(tmp_path / "texts.gguf", 8, 100_000, 8)).metadata


@pytest.mark.parametrize(
    ("kind", "count", "size", "name"),
    [(8, 200_000_000, 8, b"general.tags"), (4, 200_000_000, 4, b"tokenizer.ggml.token_type")],
)
def test_arrays_of_a_gguf_that_cannot_be_real_are_refused_at_once(
    tmp_path: Path, kind: int, count: int, size: int, name: bytes
) -> None:
    with little_memory(8 * MIB), pytest.raises(CorruptFile, match="elements"):
        read_gguf(gguf_with_array(tmp_path / "huge.gguf", kind, count, size, name))


def test_a_text_of_a_gguf_that_cannot_be_real_is_refused_at_once(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<IQQQ1sIQ", 3, 0, 1, 1, b"k", 8, 1 << 30)
    with (tmp_path / "text.gguf").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + (1 << 30))
    with little_memory(8 * MIB), pytest.raises(CorruptFile, match="claims"):
        read_gguf(tmp_path / "text.gguf")


def test_a_header_of_safetensors_that_cannot_be_real_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((90_000_000).to_bytes(8, "little"))
        file.truncate(90_000_008)
    with little_memory(8 * MIB), pytest.raises(CorruptFile, match="header claims"):
        read_safetensors(path)


def test_a_configuration_that_cannot_be_real_is_refused_at_once(tmp_path: Path) -> None:
    source = decoder(tmp_path)
    (source / "config.json").write_text(json.dumps([0] * 15_000_000))
    with little_memory(8 * MIB), pytest.raises(CorruptFile, match="more than 32 MB"):
        convert_hf(source, tmp_path / "version")
