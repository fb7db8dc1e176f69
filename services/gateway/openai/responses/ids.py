"""Ids of responses, conversations and items.

The id of an item has that of the response or conversation that it was made in: clients refer to an item by its id
alone (`item_reference`), and no index is needed to find it.
"""

import re
import secrets
from typing import Any

RESPONSE, CONVERSATION = "resp", "conv"
_HEX = 48
_OWNED = re.compile(rf"[a-z]+_([0-9a-f]{{{_HEX}}})[0-9a-f]{{4,8}}")
_GIVEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
"""By the type of an item."""


def new_id(kind: str) -> str:
    """A new id of a response or a conversation."""
    return f"{kind}_{secrets.token_hex(_HEX // 2)}"


def is_id(kind: str, text: str) -> bool:
    """Whether a text can be the id of a response or a conversation: others are never looked up."""
    return re.fullmatch(rf"{kind}_[0-9a-f]{{{_HEX}}}", text) is not None


def response_of(item_id: str) -> str | None:
    """The id of the response that an item may have been made in."""
    found = _OWNED.fullmatch(item_id)
    return f"{RESPONSE}_{found[1]}" if found else None


class ItemIds:
    """Makes the ids of the items of one response, or of those that are added to a conversation.

    Args:
        owner: The id of the response; a new one where conversations get items.
    """

    def __init__(self, owner: str) -> None:
        self._hex = owner.partition("_")[2]
        self._count = 0

    def new(self, kind: str) -> str:
        """The id of the next item, which has the type `kind`."""
        self._count += 1
        return f"{_PREFIXES[kind]}_{self._hex}{self._count:04x}"

    def identified(self, item: dict[str, Any]) -> dict[str, Any]:
        """An item with its id: the client's own, if it can be one."""
        given = item.get("id")
        known = isinstance(given, str) and _GIVEN.fullmatch(given)
        return item if known else {**item, "id": self.new(item["type"])}
