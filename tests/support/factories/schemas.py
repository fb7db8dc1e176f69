"""Random JSON schemas whose answers are short."""

from typing import Any

from hypothesis import strategies as st

_TEXTS = st.text('abcdefgé 你"\\', min_size=1, max_size=5)
_LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    st.builds(
        lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
        st.integers(-1000, 1000),
        st.integers(0, 5000),
    ),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": "string", "format": "date"}, {"type": ["boolean", "null"]}]
    ),
    st.lists(st.one_of(_TEXTS, st.integers(-99, 99), st.booleans(), st.none()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    _TEXTS.map(lambda value: {"const": value}),
    st.just({"type": "string", "pattern": "^[a-c]{1,4}x?$"}),
)


def _objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(_TEXTS, inner, max_size=3).flatmap(
        lambda properties: (
            st.sets(st.sampled_from(sorted(properties))).map(
                lambda required: {
                    "type": "object",
                    "properties": properties,
                    "required": sorted(required),
                    "additionalProperties": False,
                }
            )
            if properties
            else st.just({"type": "object", "additionalProperties": False})
        )
    )


def _arrays(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of the kinds that llguidance enforces whole."""
    return st.recursive(
        _LEAVES,
        lambda inner: st.one_of(
            _objects(inner), _arrays(inner), st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each})
        ),
        max_leaves=5,
    )
