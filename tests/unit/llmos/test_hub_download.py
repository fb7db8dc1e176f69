import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmos.hub import Downloaded, Hub
from llmos.hub_files import HubModel
from shared.errors import (
    CorruptFile,
    InvalidInput,
    LlmosError,
    NotFound,
    PermissionDenied,
    Unavailable,
    UnsupportedFormat,
)
from tests.support.fakes.hub_server import COMMIT, HubServer

FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "special_tokens_map.json": b"{  }",
    "model-00001-of-00002.safetensors": bytes(range(256)) * 40,
    "model-00002-of-00002.safetensors": b"two",
    "model.safetensors.index.json": b"{}",
    "pytorch_model.bin": b"never fetched",
    "consolidated.safetensors": b"never fetched either",
    "modeling_custom.py": b"nor this",
}
REQUESTED = {name for name in FILES if not name.startswith(("pytorch", "consolidated", "modeling"))}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    with HubServer(folder) as server:
        yield server


def download(
    server: HubServer, folder: Path, reference: str = "hf:org/tiny"
) -> tuple[Downloaded, list[tuple[Any, ...]]]:
    seen: list[tuple[Any, ...]] = []
    with Hub(server.url) as client:
        arrived = client.download(HubModel.parse(reference), folder, lambda *update: seen.append(update))
    return arrived, seen


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_an_import_reads_arrives_and_nothing_else(hub: HubServer, tmp_path: Path) -> None:
    arrived, seen = download(hub, tmp_path / "in")
    assert arrived == Downloaded(f"org/tiny@{COMMIT}", tmp_path / "in")
    assert files_in(tmp_path / "in") == {name: content for name, content in FILES.items() if name in REQUESTED}
    assert not (tmp_path / "escape.json").exists()
    fractions = [fraction for _, fraction, *_ in seen]
    assert fractions == sorted(fractions)
    assert seen[-1][:2] == ("download", 1.0)


def test_connection_that_breaks_is_taken_up_where_it_broke(hub: HubServer, tmp_path: Path) -> None:
    hub.cut_after = 3_000
    download(hub, tmp_path / "in")
    name = "model-00001-of-00002.safetensors"
    assert (tmp_path / "in" / name).read_bytes() == FILES[name]
    assert [asked for which, asked in hub.ranges if which == name] == [
        None,
        "bytes=3000-",
        "bytes=6000-",
        "bytes=9000-",
    ]


def test_second_run_goes_on_where_the_first_was_stopped(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = "model-00001-of-00002.safetensors"
    (folder / f"{name}.partial").write_bytes(FILES[name][:5_000])
    download(hub, folder)
    assert (folder / name).read_bytes() == FILES[name]
    assert (name, "bytes=5000-") in hub.ranges
    hub.ranges.clear()
    download(hub, folder)
    assert hub.ranges == []


def test_partial_file_that_is_too_long_is_fetched_anew(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "config.json.partial").write_bytes(b"{} and more")
    download(hub, folder)
    assert (folder / "config.json").read_bytes() == b"{}"


def test_file_with_another_digest_is_refused_and_removed(hub: HubServer, tmp_path: Path) -> None:
    hub.wrong_digest = True
    with pytest.raises(CorruptFile, match="SHA-256"):
        download(hub, tmp_path / "in")
    assert not list((tmp_path / "in").glob("*.safetensors*.partial"))
    assert not list((tmp_path / "in").glob("model-*.safetensors"))


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        (401, PermissionDenied, "HF_TOKEN"),
        (403, PermissionDenied, "accept its terms"),
        (404, NotFound, "no such model"),
        (500, Unavailable, "answered 500"),
    ],
)
def test_refusal_of_the_hub_says_what_to_do(
    hub: HubServer, tmp_path: Path, status: int, error: type[LlmosError], match: str
) -> None:
    hub.status = status
    with pytest.raises(error, match=match):
        download(hub, tmp_path / "in")


def ggufs(hub: HubServer, *names: str) -> None:
    """A repository of these files instead of safetensors."""
    for path in hub.folder.glob("*.safetensors"):
        path.unlink()
    for name in names:
        (hub.folder / name).parent.mkdir(exist_ok=True)
        (hub.folder / name).write_bytes(b"GGUF " + name.encode())


def test_one_of_several_ggufs_is_chosen_by_its_quantization(hub: HubServer, tmp_path: Path) -> None:
    ggufs(hub, "tiny-Q4_K_M.gguf", "tiny-IQ4_XS.gguf", "tiny.f16.gguf", "mmproj-F16.gguf")
    arrived, _ = download(hub, tmp_path / "in", "hf:org/tiny:q4_k_m")
    assert arrived == Downloaded(f"org/tiny@{COMMIT}:q4_k_m", tmp_path / "in" / "tiny-Q4_K_M.gguf")
    assert files_in(tmp_path / "in") == {"tiny-Q4_K_M.gguf": b"GGUF tiny-Q4_K_M.gguf"}
    assert download(hub, tmp_path / "other", "hf:org/tiny:F16")[0].path.name == "tiny.f16.gguf"


def test_a_gguf_in_parts_arrives_whole_and_is_named_by_its_first(hub: HubServer, tmp_path: Path) -> None:
    parts = [f"Q8_0/tiny-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    ggufs(hub, *parts)
    arrived, _ = download(hub, tmp_path / "in", "hf:org/tiny")
    assert arrived.path == tmp_path / "in" / parts[0]
    assert set(files_in(tmp_path / "in")) == set(parts)


def test_several_ggufs_without_a_choice_are_named(hub: HubServer, tmp_path: Path) -> None:
    ggufs(hub, "tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf")
    with pytest.raises(UnsupportedFormat, match="choose one of hf:org/tiny:Q4_K_M, hf:org/tiny:Q8_0"):
        download(hub, tmp_path / "in")
    with pytest.raises(NotFound, match="has no Q2_K; it has hf:org/tiny:Q4_K_M, hf:org/tiny:Q8_0"):
        download(hub, tmp_path / "in", "hf:org/tiny:Q2_K")
    ggufs(hub, "large-Q4_K_M.gguf")
    with pytest.raises(UnsupportedFormat, match="several files of this quantization"):
        download(hub, tmp_path / "in", "hf:org/tiny:Q4_K_M")
    assert not (tmp_path / "in").exists()


def test_model_without_weights_is_refused(hub: HubServer, tmp_path: Path) -> None:
    ggufs(hub)
    with pytest.raises(UnsupportedFormat, match="has no safetensors, no ONNX graph and no GGUF"):
        download(hub, tmp_path / "in")


def test_an_encoder_arrives_with_its_modules_or_its_graph(hub: HubServer, tmp_path: Path) -> None:
    for name in (
        "modules.json",
        "1_Pooling/config.json",
        "onnx/model.onnx",
        "onnx/model_O4.onnx",
        "runs/config.json",
    ):
        (hub.folder / name).parent.mkdir(exist_ok=True)
        (hub.folder / name).write_bytes(b"{}")
    download(hub, tmp_path / "in")
    assert set(files_in(tmp_path / "in")) == REQUESTED | {"modules.json", "1_Pooling/config.json"}
    ggufs(hub)
    download(hub, tmp_path / "graph")
    assert "onnx/model.onnx" in files_in(tmp_path / "graph")
    assert "onnx/model_O4.onnx" not in files_in(tmp_path / "graph")


def test_unreachable_hub_says_how_to_go_on_without_it(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Hub(url) as client, pytest.raises(Unavailable, match="copy the folder here and import it by its path"):
            client.download(HubModel("org/tiny"), tmp_path / "in", lambda *_: None)
    assert not (tmp_path / "in").exists()


def test_something_else_than_a_hub_is_an_error(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "listing", lambda: {"id": "x", "sha": "../../etc", "siblings": []})
    with pytest.raises(Unavailable, match="no commit"):
        download(hub, tmp_path / "in")
    monkeypatch.setattr(hub, "listing", lambda: ["hello"])
    with pytest.raises(Unavailable, match="something else than a hub"):
        download(hub, tmp_path / "in")


@pytest.mark.parametrize(
    "text", ["hf:", "hf:tiny", "hf:org/tiny/x", "hf:../x", "hf:org/..", "hf:org/tiny@", "hf:a/b@../x", "hf:org/tiny:"]
)
def test_reference_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected hf:org/name"):
        HubModel.parse(text)


def test_revision_is_a_branch_a_tag_or_a_commit() -> None:
    assert HubModel.parse("hf:org/tiny") == HubModel("org/tiny", "main")
    assert HubModel.parse("hf:org/tiny@refs/pr/3") == HubModel("org/tiny", "refs/pr/3")
    assert HubModel.parse("hf:org/tiny@v1:Q4_K_M") == HubModel("org/tiny", "v1", "Q4_K_M")


def test_the_stored_token_goes_to_the_hub_alone(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_stored\n")
    with Hub() as client:
        assert client._http.headers["authorization"] == "Bearer hf_stored"
    with Hub(hub.url) as client:
        assert "authorization" not in client._http.headers
    monkeypatch.setenv("HF_TOKEN", "hf_given")
    with Hub() as client:
        assert client._http.headers["authorization"] == "Bearer hf_given"
