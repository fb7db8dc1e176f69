import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.manifests import decode_manifest, digest_of, encode_manifest
from shared.contracts.manifest import DecoderSpec, Lineage, Manifest, ManifestFile, MemoryNeed
from shared.errors import CorruptFile, InvalidInput

numbers = st.floats(allow_nan=False, allow_infinity=False)
manifests = st.builds(
    Manifest,
    files=st.lists(
        st.builds(
            ManifestFile,
            path=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
            digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
            size=st.integers(0, 1 << 50),
        ),
        max_size=4,
        unique_by=lambda file: file.path,
    ).map(tuple),
    decoder=st.just(DecoderSpec.EXAMPLE),
    memory=st.builds(
        MemoryNeed, weights=st.integers(0, 1 << 50), kv_per_token=st.integers(0, 1 << 20), activations=st.just(0)
    ),
    defaults=st.dictionaries(
        st.text(max_size=8), st.one_of(numbers, st.integers(-(1 << 50), 1 << 50), st.text(max_size=8))
    ),
    metrics=st.dictionaries(st.text(max_size=8), numbers),
    lineage=st.builds(Lineage, source=st.text(max_size=20), license=st.none() | st.text(max_size=5)),
)


@settings(max_examples=40)
@given(manifest=manifests)
def test_a_manifest_survives_the_bytes_and_the_bus(manifest):
    data = encode_manifest(manifest)
    stored = decode_manifest(data, Manifest, digest=digest_of(data), reference="m:1")
    assert stored == manifest
    assert encode_manifest(stored) == data
    assert encode_manifest(Manifest.decode(manifest.encode())) == data


def test_the_order_of_keys_does_not_matter():
    assert Manifest.EXAMPLE is not None
    one = Manifest.EXAMPLE.model_copy(update={"metrics": {"a": 1.0, "b": 2.0}})
    other = Manifest.EXAMPLE.model_copy(update={"metrics": {"b": 2.0, "a": 1.0}})
    assert encode_manifest(one) == encode_manifest(other)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_json_does_not_have_is_refused(value):
    assert Manifest.EXAMPLE is not None
    with pytest.raises(InvalidInput, match="not finite"):
        encode_manifest(Manifest.EXAMPLE.model_copy(update={"metrics": {"perplexity": value}}))


def test_a_manifest_that_was_changed_in_the_store_is_refused():
    assert Manifest.EXAMPLE is not None
    data = encode_manifest(Manifest.EXAMPLE)
    with pytest.raises(CorruptFile, match="manifest of m:1 in the store was changed"):
        decode_manifest(data + b" ", Manifest, digest=digest_of(data), reference="m:1")
    with pytest.raises(CorruptFile, match="can't be read"):
        decode_manifest(b"{}", Manifest, digest=digest_of(b"{}"), reference="m:1")
