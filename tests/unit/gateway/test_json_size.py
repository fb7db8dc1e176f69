"""The count of a JSON text's values, compared with one that looks at each character."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http import json_size
from shared.errors import InvalidInput

TEXTS = st.text(alphabet='a,"[{\\\n}é', max_size=40) | st.sampled_from(["x, [" * 1500, '\\"' * 300, "," * 70_000])
VALUES = st.recursive(
    TEXTS | st.integers(), lambda inner: st.lists(inner, max_size=90) | st.dictionaries(TEXTS, inner, max_size=4)
)


def counted(text: bytes) -> tuple[int, int]:
    """(commas, opening brackets) outside of strings."""
    commas = brackets = 0
    inside = escaped = False
    for character in text.decode():
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        else:
            commas += character == ","
            brackets += character in "[{"
    return commas, brackets


@given(VALUES, st.booleans())
def test_it_is_exact_whatever_stands_in_texts(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode()
    commas, brackets = counted(text)
    for most_values, most_containers in ((commas, brackets), (commas - 1, brackets), (commas, brackets - 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_size, "MAX_VALUES", most_values)
            patch.setattr(json_size, "MAX_CONTAINERS", most_containers)
            if most_values < commas or most_containers < brackets:
                with pytest.raises(InvalidInput):
                    json_size.check_json_size(text)
            else:
                json_size.check_json_size(text)
