"""Content that is a list of parts: only parts with a text are taken."""

from collections.abc import Mapping

from services.gateway.dialects.bounds import MAX_PARTS


def text_parts(content: object, texts: Mapping[str, str], example: str) -> list[tuple[str, str]]:
    """The type and the text of each part.

    Args:
        content: As it was sent, and no string.
        texts: By the type of a part: the key of its text.
        example: A part, as JSON, for messages.

    Raises:
        ValueError: It is no list of such parts; pydantic reports it.
    """
    if not isinstance(content, list | tuple):
        msg = "expected a string or a list of text parts"
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    if len(content) > MAX_PARTS:
        msg = f"it has {len(content)} parts; at most {MAX_PARTS} are taken"
        raise ValueError(msg)
    parts = []
    for index, part in enumerate(content):
        if not isinstance(part, Mapping) or "type" not in part:
            msg = f"part {index} must be an object like {example}"
            raise ValueError(msg)
        kind = part["type"]
        key = texts.get(kind) if isinstance(kind, str) else None
        if key is None:
            msg = f"part {index} is of type {kind!r:.80}, which is not supported: models here take text"
            raise ValueError(msg)
        if not isinstance(text := part.get(key), str):
            msg = f"the {key} of part {index} must be a string"
            raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
        parts.append((kind, text))
    return parts
