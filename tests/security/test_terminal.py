"""A terminal is a terminal: what models, names and errors contain is shown, and never obeyed."""

import json
import tomllib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.cli.observe import _print_line
from llmos.cli.output import note, print_error, print_json, print_table, print_tree, say, write, write_document
from llmos.cli.stream import print_stream
from llmos.cli.trace_view import tree
from llmos.client import ChatDelta
from services.gateway.admin.contracts import NewKey
from services.gateway.openai.files.form import read_upload
from shared.errors import InvalidInput
from shared.printable import is_printable, obeyed, printable, printable_document
from shared.storage.directory import DirectoryStore

C0 = [chr(code) for code in range(32) if chr(code) not in "\n\t"]
C1 = [chr(code) for code in range(0x7F, 0xA0)]
ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31mred\u202ereversed\u2028\r"


def obeys(text: str) -> list[str]:
    """What a terminal would act on, but for line ends, tabs and this program's own colours."""
    return [char for char in text if obeyed(char) and char not in "\n\t"]


@pytest.mark.parametrize("char", [*C0, *C1, "\u2028", "\u202e", "\u2066"])
def test_every_control_character_is_written_out(char: str) -> None:
    assert obeys(printable(f"a{char}b")) == []
    assert not is_printable(char)
    assert json.loads(printable_document(json.dumps({"a": f"x{char}"}, ensure_ascii=False)))["a"] == f"x{char}"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_ordinary_text_stays(text: str) -> None:
    text = "".join(char for char in text if not obeyed(char))
    assert printable(text) == printable_document(text) == text
    assert is_printable(text)


def test_a_streamed_answer_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    def deltas() -> Iterator[ChatDelta]:
        for char in "fine\n\ttext " + ATTACK:  # a sequence may come in pieces
            yield ChatDelta(text=char, trace_id="t")

    printed = print_stream(deltas())
    shown = capsys.readouterr().out
    assert obeys(shown) == []
    assert shown.startswith("fine\n\ttext \\x1b]0;owned")
    assert printed.text.endswith(ATTACK), "the conversation goes on with what the model wrote"


def test_whatever_a_command_prints_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    say(ATTACK)
    note(ATTACK)
    write(ATTACK)
    write_document(json.dumps(ATTACK, ensure_ascii=False))
    print_error(ATTACK)
    print_json({ATTACK: ATTACK})
    print_table(["name"], [[ATTACK]], empty="")
    _print_line(Path("gateway.log"), ATTACK)
    attributes = [{"key": "llmos.replica", "value": {"stringValue": ATTACK}}]
    span = {
        "spanId": "1", "name": ATTACK, "startTimeUnixNano": "0", "endTimeUnixNano": "1",
        "attributes": attributes, "events": [{"name": ATTACK, "attributes": attributes}],
    }  # fmt: skip
    service = {"attributes": [{"key": "service.name", "value": {"stringValue": ATTACK}}]}
    print_tree(tree({"resourceSpans": [{"resource": service, "scopeSpans": [{"spans": [span]}]}]}, ATTACK))
    written = capsys.readouterr()
    assert obeys(written.out + written.err) == []
    assert "owned" in written.out
    assert "owned" in written.err


def test_json_that_is_printed_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": ATTACK})
    assert json.loads(capsys.readouterr().out) == {"text": ATTACK}


def test_toml_that_is_printed_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    write_document('name = "a\x9bb"\n')
    assert tomllib.loads(capsys.readouterr().out) == {"name": "a\x9bb"}


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\x9b", "a\u202eb"])
async def test_names_take_printable_characters(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        NewKey(name=name)
    assert NewKey(name="Zoë's key 👍").name == "Zoë's key 👍"


@pytest.mark.parametrize("name", [b"rows\x1b[2J.jsonl", "rows\x9b.jsonl".encode()])
async def test_names_of_uploaded_files_take_printable_characters(tmp_path: Path, name: bytes) -> None:
    body = b"".join([
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="', name, b'"\r\n\r\n{}\r\n--b--\r\n',
    ])  # fmt: skip

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    with pytest.raises(InvalidInput, match="control characters") as caught:
        await read_upload(
            "multipart/form-data; boundary=b", chunks(), DirectoryStore(tmp_path), limit=1000, now=datetime.now(UTC)
        )
    assert is_printable(caught.value.message)
