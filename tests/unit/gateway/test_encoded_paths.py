"""A path is matched by its parts: an encoded slash is a character of a name."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http.paths import part, routed_path


def scope(raw: str) -> dict[str, object]:
    return {"raw_path": raw.encode(), "path": "unused"}


@pytest.mark.parametrize(
    ("raw", "routed"),
    [
        ("/a/..%2Fb", "/a/..%2Fb"),
        ("/a/..%2fb", "/a/..%2fb"),
        ("/a/%252F", "/a/%252F"),
        ("/a/%C3%A9%20b", "/a/é b"),
        ("/a/%ff", "/a/\ufffd"),
        ("/a/100%", "/a/100%"),
        ("/a%2", "/a%2"),
    ],
)
def test_only_slashes_and_percent_signs_stay_encoded(raw, routed):
    assert routed_path(scope(raw)) == routed


@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_every_name_is_one_part_and_comes_back_as_it_was(names):
    path = routed_path(scope("/" + "/".join(quote(name, safe="") for name in names) + "%2F"))
    assert [part(text) for text in path.split("/")[1:]] == [*names[:-1], names[-1] + "/"]


def test_a_path_without_an_escape_is_the_servers():
    assert routed_path({"raw_path": b"/a/b", "path": "/a/b"}) == "/a/b"
    assert routed_path({"path": "/a/b"}) == "/a/b"
