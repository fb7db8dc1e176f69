"""Forms with files, in pieces of any size."""

import pytest

from services.gateway.http.multipart import MAX_FIELD, MAX_PARTS, read_field, read_parts
from shared.errors import InvalidInput, PayloadTooLarge

TYPE = "multipart/form-data; boundary=b0"
FORM = (
    b'--b0\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--b0\r\nContent-Disposition: form-data; name="file"; filename="r\xc3\xa4ws \\"1\\".jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nline 1\r\n--b\r\n--b1\nline 2\r\n--b0--\r\n"
)  # fmt: skip


async def pieces(data: bytes, size: int):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(data: bytes, size: int = 1 << 20, content_type: str = TYPE):
    parts = read_parts(content_type, pieces(data, size))
    return [(part.name, part.filename, b"".join([chunk async for chunk in part.content])) async for part in parts]


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1 << 20])
async def test_the_fields_are_read_in_order_whatever_arrives_together(size):
    assert await read(FORM, size) == [
        ("purpose", None, b"fine-tune"),
        ("file", 'räws "1".jsonl', b"line 1\r\n--b\r\n--b1\nline 2"),
    ]


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_content_that_nobody_reads_is_skipped(size):
    assert [part.name async for part in read_parts(TYPE, pieces(FORM, size))] == ["purpose", "file"]


async def test_a_form_that_is_cut_anywhere_is_refused():
    for end in range(len(FORM) - 4):
        with pytest.raises(InvalidInput):
            await read(FORM[:end])


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=b0"]
)
async def test_another_type_of_content_is_refused(content_type):
    with pytest.raises(InvalidInput, match="multipart/form-data"):
        await read(FORM, content_type=content_type)


async def test_a_form_without_end_is_refused_early():
    part = b'--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    with pytest.raises(InvalidInput, match="more than"):
        await read(part * (MAX_PARTS + 1) + b"--b0--\r\n")
    with pytest.raises(InvalidInput, match="can't be read"):
        await read(b"--b0\r\n" + b"X: y\r\n" * 100 + b"\r\n\r\n--b0--\r\n")
    with pytest.raises(InvalidInput, match="can't be read"):
        await read(b"--b0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n\r\n--b0--\r\n")
    with pytest.raises(InvalidInput, match="Content-Disposition"):
        await read(b"--b0\r\nX: y\r\n\r\n\r\n--b0--\r\n")


async def test_a_field_is_a_short_text():
    async def field(value: bytes):
        form = b'--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + value + b"\r\n--b0--\r\n"
        return [await read_field(part) async for part in read_parts(TYPE, pieces(form, 1000))]

    assert await field("ä".encode()) == ["ä"]
    with pytest.raises(InvalidInput, match="a is not UTF-8"):
        await field(b"\xff")
    with pytest.raises(PayloadTooLarge, match="64 KiB"):
        await field(b"x" * (MAX_FIELD + 1))
