import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.hub import Hub, HubModel
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


def download(server: HubServer, folder: Path, reference: str = "hf:org/tiny") -> tuple[str, list[tuple[str, float]]]:
    seen: list[tuple[str, float]] = []
    with Hub(server.url) as client:
        origin = client.download(HubModel.parse(reference), folder, lambda *update: seen.append(update))
    return origin, seen


def test_what_an_import_reads_arrives_and_nothing_else(hub: HubServer, tmp_path: Path) -> None:
    origin, seen = download(hub, tmp_path / "in")
    assert origin == f"org/tiny@{COMMIT}"
    assert {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()} == {
        name: content for name, content in FILES.items() if name in REQUESTED
    }
    assert not (tmp_path / "escape.json").exists()
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert seen[-1] == ("download", 1.0)


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


def test_model_without_safetensors_is_refused_naming_its_gguf(hub: HubServer, tmp_path: Path) -> None:
    for path in hub.folder.glob("*.safetensors"):
        path.unlink()
    (hub.folder / "tiny.Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedFormat, match=r"no safetensors.*tiny\.Q4_K_M\.gguf"):
        download(hub, tmp_path / "in")


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
    monkeypatch.setattr(hub, "listing", lambda: {"sha": "../../etc", "siblings": []})
    with pytest.raises(Unavailable, match="no commit"):
        download(hub, tmp_path / "in")
    monkeypatch.setattr(hub, "listing", lambda: ["hello"])
    with pytest.raises(Unavailable, match="something else than a hub"):
        download(hub, tmp_path / "in")


@pytest.mark.parametrize(
    "text", ["hf:", "hf:tiny", "hf:org/tiny/x", "hf:../x", "hf:org/..", "hf:org/tiny@", "hf:a/b@../x"]
)
def test_reference_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected hf:org/name"):
        HubModel.parse(text)


def test_revision_is_a_branch_a_tag_or_a_commit() -> None:
    assert HubModel.parse("hf:org/tiny") == HubModel("org/tiny", "main")
    assert HubModel.parse("hf:org/tiny@refs/pr/3") == HubModel("org/tiny", "refs/pr/3")
