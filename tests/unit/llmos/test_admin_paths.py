"""Paths of the admin API: a name never becomes another path than its own."""

from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.transport import admin_path
from shared.errors import NotFound


@pytest.mark.parametrize("name", ["../models/victim", ".", "..", "", "a/b", "a\\b", "a\nb", "a" * 257])
def test_what_can_not_be_a_name_is_not_sent(name):
    with pytest.raises(NotFound, match="there is no deployment '"):
        admin_path("deployments", name)


def test_the_kind_is_named():
    with pytest.raises(NotFound, match="there is no alias 'x/y'"):
        admin_path("models", "m", "aliases", "x/y")


@given(name=st.text(min_size=1, max_size=40))
def test_a_name_is_one_part_of_the_path_that_is_sent(name):
    try:
        path = admin_path("models", name, "versions")
    except NotFound:
        return
    client = httpx.Client(base_url="http://h/prefix", trust_env=False)
    sent = client.build_request("GET", path).url.raw_path.decode()
    empty, *parts = sent.split("/")
    assert [empty, *map(unquote, parts)] == ["", "prefix", "llmos", "v1", "models", name, "versions"]
