"""Every contract has an example that survives the wire; references and errors parse and refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.base import Contract, Endpoint
from shared.contracts.gateway import frames_subject
from shared.contracts.load import load_subject
from shared.contracts.manifest import Manifest, ManifestFile, MemoryNeed, Reference, is_name
from shared.contracts.replica import (
    Generate,
    cancel_endpoint,
    drain_endpoint,
    generate_endpoint,
)
from shared.errors import ErrorPayload, Internal, LlmosError, from_payload
from tests.support.factories.contracts import CONTRACTS, MODULES

ENDPOINTS = [value for module in MODULES for value in vars(module).values() if isinstance(value, Endpoint)]


def tree(root: type[LlmosError]) -> list[type[LlmosError]]:
    """The errors that may cross the bus: those of `shared.errors`, whatever else was imported before."""
    branches = [child for child in root.__subclasses__() if child.__module__ == root.__module__]
    return [root, *(leaf for child in branches for leaf in tree(child))]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_example_is_of_its_own_class_and_survives_the_wire(contract: type[Contract]) -> None:
    example = contract.EXAMPLE
    assert type(example) is contract
    assert contract.decode(example.encode()) == example


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_a_newer_peers_field_is_ignored(contract: type[Contract]) -> None:
    example = contract.EXAMPLE
    data = example.encode()
    newer = b'{"from_the_future": 1' + (b"}" if data == b"{}" else b"," + data[1:])
    assert contract.decode(newer) == example


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_contracts_are_frozen(contract: type[Contract]) -> None:
    assert contract.model_config["frozen"]


def test_endpoints_have_subjects_of_their_own() -> None:
    made = [
        endpoint
        for replica in ("a", "b")
        for endpoint in (generate_endpoint(replica), cancel_endpoint(replica), drain_endpoint(replica))
    ]
    subjects = [
        endpoint.subject for endpoint in {id(endpoint): endpoint for endpoint in [*ENDPOINTS, *made]}.values()
    ]
    subjects += [load_subject("a"), frames_subject("a")]
    assert len(set(subjects)) == len(subjects)
    assert all(subject.startswith("llmos.v1.") for subject in subjects)


def test_endpoints_name_their_verb() -> None:
    assert generate_endpoint("a").verb == "generate"


# Bounded repetitions: Hypothesis makes them much faster than those of NAME_PATTERN.
names = st.from_regex(r"[a-z0-9]{1,16}(?:(?:\.|[_-]{1,3})[a-z0-9]{1,9}){0,4}", fullmatch=True).filter(is_name)


@given(names, st.none() | st.integers(1, 999_999_999), st.none() | names)
def test_references_survive_being_written_and_parsed(name: str, version: int | None, alias: str | None) -> None:
    reference = Reference(name=name, version=version, alias=None if version else alias)
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "a:",
        "a@",
        "a:b",
        "a:-1",
        "a:1:2",
        "a@b@c",
        "a:1@b",
        "A",
        "a b",
        "-a",
        "a-",
        "a" * 65,
        "a\n",
        "é",
    ],
)
def test_what_is_not_a_reference_is_refused_with_the_three_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"'name', 'name:3' or 'name@alias'"):
        Reference.parse(text)


def test_version_zero_does_not_exist() -> None:
    with pytest.raises(ValidationError):
        Reference(name="a", version=0)


@pytest.mark.parametrize("path", ["../x", "a/../b", "/abs", "a//b", ".hidden", "", "a b", "a\\b"])
def test_files_stay_inside_the_versions_folder(path: str) -> None:
    with pytest.raises(ValidationError):
        ManifestFile(path=path, digest="ab" * 32, size=1)


def test_two_files_cannot_share_a_path() -> None:
    example = Manifest.EXAMPLE
    with pytest.raises(ValidationError, match="share a path"):
        Manifest.model_validate({**example.model_dump(), "files": [example.files[0].model_dump()] * 2})


def test_a_replicas_memory_is_the_sum_of_its_parts() -> None:
    need = MemoryNeed(weights=100, kv_per_token=2, activations=10)
    assert need.replica_bytes(slots=4, max_len=50) == 100 + 10 + 4 * 50 * 2
    whole = need.model_copy(update={"process": 1000, "per_slot": 3, "grammars": 20_000})
    assert whole.replica_bytes(slots=4, max_len=50, prefix_cache=7) == 100 + 10 + 4 * (50 * 2 + 3) + 1000 + 20_000 + 7


@pytest.mark.parametrize("given_", [{}, {"prompt": "a", "prompt_token_ids": (1,)}, {"prompt": "a", "messages": ()}])
def test_a_generation_has_exactly_one_prompt(given_: dict) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        Generate(request_id="r", gateway_id="g", **given_)


@pytest.mark.parametrize("kind", tree(LlmosError), ids=lambda kind: kind.__name__)
def test_every_error_survives_the_bus(kind: type[LlmosError]) -> None:
    error = kind("what to do", param="model", retry_after=2.5)
    again = from_payload(ErrorPayload.model_validate_json(error.payload().model_dump_json()))
    assert type(again) is (Internal if kind is LlmosError else kind)
    assert (again.message, again.param, again.retry_after) == ("what to do", "model", 2.5)
    assert again.retryable == kind.retryable


def test_error_codes_differ() -> None:
    codes = [kind.code for kind in tree(LlmosError) if kind is not LlmosError]
    assert len(set(codes)) == len(codes)


def test_an_unknown_code_is_internal() -> None:
    assert type(from_payload(ErrorPayload(code="brand_new", message="x"))) is Internal
