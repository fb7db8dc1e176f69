"""Bodies of requests with values that no library takes, as hypothesis makes them."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

_DEEP = '{"a":' * 150 + "1" + "}" * 150
HOSTILE = (
    *("null", "true", "0", "-1", "1", "1.5", "1e-320", "2147483648", "4294967296", "1e400", "-1e400"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("1" + "0" * 30, "1" * 4300, "9" * 5000, "NaN", "Infinity", "-Infinity"),
    *('""', '"x"', r'"\ud83d"', r'"\udc00x"', r'"\u0000"', r'"\u2028"', '"' + "a" * 5000 + '"', r'"\ufeff{}"'),
    *("[]", "[[]]", "{}", "[null]", "[1.0]", "[9223372036854775807]", "[-1]", "[[4294967296]]", r'["\ud83d"]'),
    *("[" * depth + "]" * depth for depth in (100, 190, 250, 3000)),
    *(_DEEP, json.dumps(_DEEP), json.dumps("[" * 5000), '{"":""}', r'{"\ud83d":1}'),
    *(r'"{\"a\": \"\\ud83d\"}"', r'"{\"a\": 1e400}"', '"NaN"', '"{\\"a\\": ' + "1" * 5000 + '}"'),
    *('{"1": NaN}', '{"1": 1e400}', '{"999999999": 1}', '{"type":"object","minimum":NaN}', '{"$ref":"#"}'),
    *('{"pattern":"(?=x)"}', '{"pattern":"("}', r'{"const":"\udc00"}', '{"type":[]}', '{"enum":[]}'),
    *('{"type":"number","maximum":1e400}', '{"type":"integer","minimum":' + "1" * 400 + "}"),
)
"""As JSON writes them, and some as JSON does not."""


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where a value can stand in `value`, the whole not included."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, child in value.items():
            yield from paths(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from paths(child, (*path, index))


def replaced(body: Mapping[str, Any], places: Mapping[Path, str]) -> bytes:
    """A body with other JSON in some places."""
    changed: Any = copy.deepcopy(body)
    for number, path in enumerate(sorted(places, key=len, reverse=True)):  # the outer ones last: they win
        parent = changed
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = f"@{number}@"
    text = json.dumps(changed)
    for number, path in enumerate(sorted(places, key=len, reverse=True)):
        text = text.replace(f'"@{number}@"', places[path])
    return text.encode()


@st.composite
def hostile_bodies(draw: st.DrawFn, bodies: list[tuple[str, dict[str, Any]]]) -> tuple[str, bytes]:
    """(path of the route, body): one of `bodies` with other values in one to three places."""
    route, body = draw(st.sampled_from(bodies))
    body = {**body, **draw(st.sampled_from([{}, {}, {"extra": 1}]))}
    chosen = draw(st.lists(st.sampled_from(list(paths(body))), min_size=1, max_size=3, unique=True))
    return route, replaced(body, {path: draw(st.sampled_from(HOSTILE)) for path in chosen})
