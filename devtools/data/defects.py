"""What can be wrong with a row, and where."""

from dataclasses import dataclass

DEFECTS = {
    "not_json": "a line that is not JSON: cut off, or of another form",
    "not_utf8": "a line that is not UTF-8",
    "unknown_form": "an object that is of no known form",
    "other_form": "an object of another form than the first of its file",
    "missing_field": "a field is missing, or not of its type",
    "broken_roles": "a role that does not exist, or messages in an order in which nothing is answered",
    "broken_tool_call": "a call whose arguments are not JSON, or a result of a call that was not made",
    "empty_prompt": "nothing to answer",
    "empty_answer": "nothing would be learnt from it",
    "equal_pair": "the better and the worse answer are the same",
    "mojibake": "text that was decoded with the wrong encoding",
    "control_character": "a character that no text has",
    "special_token": "text that looks like a special token of a chat template",
    "too_long": "more tokens, or characters, than the limit",
    "duplicate": "the same row again",
    "duplicate_id": "an id that an earlier row of the sources has",
    "near_duplicate": "nearly an earlier row",
    "conflicting_answers": "the same prompt with another answer",
    "repetition": "text that repeats itself",
    "personal_data": "mail addresses, phone numbers, accounts, cards, network addresses, keys",
    "overlap": "words in a row that an evaluation suite has too",
}
"""Kinds of findings. Behind a dot stands which: `personal_data.email`, `overlap.team`."""

UNREADABLE = frozenset(
    {"not_json", "not_utf8", "unknown_form", "other_form", "missing_field", "broken_roles", "broken_tool_call"}
    | {"empty_prompt", "empty_answer"}
)
"""Kinds of which no row can be made: an import leaves none of them out unless it is asked to."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect.

    kind: a key of `DEFECTS`
    where: `chats.jsonl:17`
    message: names the field and what was expected
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class Broken(Exception):
    """An object of which no row can be made; raised by the forms, caught by the reader, which knows the place."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
