"""The canonical rows that models are trained on and evaluated with, and their form in a file: one JSON object a line.

    {"kind": "text", "text": "…"}
    {"kind": "turn", "messages": [{"role": "user", "content": "…"}], "answer": {"role": "assistant", "content": "…"}}
    {"kind": "pair", "messages": […], "chosen": {…}, "rejected": {…}}
    {"kind": "item", "messages": […], "choices": ["…", "…"], "answer": 0}

A conversation with several answers is several turns: each has the messages that the server would have received
before that answer. A row is named by the BLAKE2b digest of its content, so equal rows have equal ids in every file.
Rows of one `group` belong together (the turns of a conversation, an original and its copies): they go to one split.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from shared.contracts.replica import ChatMessage, Tool
from shared.errors import CorruptFile, NotFound

ID_BYTES = 16


class _Row(BaseModel):
    """What all rows have in common. Unknown keys are an error: a misspelt one would be lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = Field(default="", max_length=256)
    """What the row belongs to; it is no part of the id. Empty: the row stands alone."""

    @property
    def id(self) -> str:
        """32 hexadecimal digits that name the content."""
        content = self.model_copy(update={"group": ""}) if self.group else self
        return hashlib.blake2b(content.canonical(), digest_size=ID_BYTES).hexdigest()

    def canonical(self) -> bytes:
        """UTF-8 JSON with sorted keys, no white space, and without what has its default value."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        content["kind"] = type(self).model_fields["kind"].default
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


class _Conversation(_Row):
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    """What the server would have received."""
    tools: tuple[Tool, ...] = ()


def _assistant(message: ChatMessage) -> ChatMessage:
    if message.role != "assistant":
        msg = f"has the role {message.role!r}, expected 'assistant'"
        raise ValueError(msg)
    return message


class Text(_Row):
    """A text of which every token is learnt."""

    kind: Literal["text"] = "text"
    text: str


class Turn(_Conversation):
    """A prompt and its answer, of which only the answer is learnt."""

    kind: Literal["turn"] = "turn"
    answer: ChatMessage

    @field_validator("answer")
    @classmethod
    def _is_an_answer(cls, answer: ChatMessage) -> ChatMessage:
        return _assistant(answer)


class Pair(_Conversation):
    """A prompt with the better of two answers, and the other."""

    kind: Literal["pair"] = "pair"
    chosen: ChatMessage
    rejected: ChatMessage

    @field_validator("chosen", "rejected")
    @classmethod
    def _are_answers(cls, answer: ChatMessage) -> ChatMessage:
        return _assistant(answer)


class Item(_Row):
    """An item of an evaluation suite: a prompt, as messages or as plain text, and what a right answer is."""

    kind: Literal["item"] = "item"
    messages: tuple[ChatMessage, ...] = ()
    prompt: str = ""
    """With no messages: a text to go on from; may be empty where the choices are whole texts."""
    tools: tuple[Tool, ...] = ()
    choices: tuple[str, ...] = ()
    """Continuations that are compared by their likelihood."""
    answer: int | None = None
    """Index of the right choice."""
    references: tuple[str, ...] = ()
    """Right answers, each of them right; or the text whose perplexity is measured."""
    scorer: str = ""
    """How it is scored; empty: as the suite says."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Facts that a scorer or a report uses: `category`, `pair`, …"""

    @model_validator(mode="after")
    def _fits_together(self) -> "Item":
        if self.messages and self.prompt:
            msg = "has both messages and a prompt; expected one of them"
            raise ValueError(msg)
        if not self.choices and not self.references and not self.messages and not self.prompt:
            msg = "is empty: expected a prompt, choices or references"
            raise ValueError(msg)
        if self.answer is not None and not 0 <= self.answer < len(self.choices):
            msg = f"answer {self.answer} is not the index of one of {len(self.choices)} choices"
            raise ValueError(msg)
        return self


Row = Text | Turn | Pair | Item

_ROW: TypeAdapter[Row] = TypeAdapter(Annotated[Row, Field(discriminator="kind")])


def parse_row(line: str | bytes, where: str) -> Row:
    """One row; raises CorruptFile that begins with `where` and names the field."""
    try:
        return _ROW.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CorruptFile(f"{where}: {f'{place}: ' if place else ''}{first['msg']}", param=place or "data") from None


def parse_object(value: Mapping[str, Any]) -> Row:
    """One row of an object that was read already; raises pydantic's ValidationError."""
    return _ROW.validate_json(json.dumps(value))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file, in order; empty lines are skipped.

    Raises:
        NotFound: no such file.
        CorruptFile: a line that is not a row; the message has the file, the line and the field.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFound(f"the rows {path} can't be read: {error.strerror}", param="data") from None
    with file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield parse_row(line, f"{path.name}, line {number}")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write `rows` as JSONL in their canonical form; returns how many there were."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(row.canonical() + b"\n")
            count += 1
    return count


def rows_digest(ids: Iterable[str]) -> str:
    """SHA-256 of the ids of rows in their order: the name of the data of a run."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
