import json

import pytest


@pytest.fixture
def jsonl(tmp_path):
    """Writes objects, or raw lines, to a file of JSON Lines."""

    def write(*lines, name: str = "rows.jsonl"):
        path = tmp_path / name
        data = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
        path.write_bytes(b"".join(line + b"\n" for line in data))
        return path

    return write


@pytest.fixture
def chat():
    """A conversation in OpenAI's form, of texts that take turns."""

    def conversation(*texts: str, **more):
        roles = ("user", "assistant")
        return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)], **more}

    return conversation
