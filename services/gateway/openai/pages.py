"""Lists in pages, as OpenAI has them: `after` is the id of the last object of the page before."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from shared.errors import InvalidInput


def limit_of(request: Request, *, default: int, most: int) -> int:
    """The query parameter `limit`; raises `InvalidInput`."""
    text = request.query_params.get("limit", str(default))
    if not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= most:
        raise InvalidInput(f"limit must be a whole number from 1 to {most}, not {text[:40]!r}", param="limit")
    return int(text)


def check_query(request: Request, *known: str) -> None:
    """Raise `InvalidInput` for a query parameter that is not `known`."""
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise InvalidInput(f"unrecognized query parameter: {unknown[0][:80]}", param=unknown[0][:80])


def page_of(objects: Sequence[dict[str, Any]], request: Request, limit: int) -> dict[str, Any]:
    """The page of a list that a request asks for; raises `InvalidInput` for an `after` that is not in the list."""
    after, begin = request.query_params.get("after"), 0
    if after is not None:
        places = [place for place, each in enumerate(objects) if each["id"] == after]
        if not places:
            raise InvalidInput(f"after: there is no {after[:80]!r} in this list", param="after")
        begin = places[0] + 1
    return listed(objects[begin : begin + limit], more=len(objects) > begin + limit)


def listed(data: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """OpenAI's list object."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
