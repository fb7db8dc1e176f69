import pytest

from services.scheduler.deploying import wanted
from shared.contracts.manifest import DecoderSpec, Manifest
from shared.contracts.registry import VersionInfo
from shared.contracts.scheduler import Deploy
from shared.errors import InvalidInput
from tests.support.scheduling import START


def version(*, context_length: int = 8192, number: int = 1) -> VersionInfo:
    decoder = DecoderSpec.EXAMPLE.model_copy(update={"context_length": context_length})
    manifest = Manifest.EXAMPLE.model_copy(update={"decoder": decoder})
    return VersionInfo.EXAMPLE.model_copy(update={"manifest": manifest, "version": number})


def test_the_name_is_the_models_unless_given():
    assert wanted(Deploy(reference="smollm2"), version(), None, START).name == "smollm2"
    assert wanted(Deploy(reference="smollm2", name="chat"), version(), None, START).name == "chat"


def test_max_len_is_the_context_length_but_at_most_4096():
    assert wanted(Deploy(reference="smollm2"), version(context_length=2048), None, START).max_len == 2048
    assert wanted(Deploy(reference="smollm2"), version(context_length=8192), None, START).max_len == 4096


def test_a_max_len_above_the_context_length_names_both():
    with pytest.raises(InvalidInput, match=r"max_len 9000 .* smollm2:1, which is 8192 tokens") as caught:
        wanted(Deploy(reference="smollm2", max_len=9000), version(), None, START)
    assert caught.value.param == "max_len"


def test_memory_is_what_the_manifest_says_for_these_slots():
    record = wanted(Deploy(reference="smollm2", slots=2, max_len=100), version(), None, START)
    need = Manifest.EXAMPLE.memory
    assert record.resources.memory == need.weights + need.activations + 2 * 100 * need.kv_per_token


def test_threads_are_reserved_only_when_asked_for():
    assert wanted(Deploy(reference="smollm2"), version(), None, START).resources.threads == 0
    assert wanted(Deploy(reference="smollm2", threads=3), version(), None, START).resources.threads == 3


def test_the_same_request_again_is_the_same_record():
    first = wanted(Deploy(reference="smollm2"), version(), None, START)
    again = wanted(Deploy(reference="smollm2"), version(), first, START.replace(hour=13))
    assert again == first


def test_a_change_raises_the_generation_and_keeps_the_time_of_creation():
    first = wanted(Deploy(reference="smollm2"), version(), None, START)
    changed = wanted(Deploy(reference="smollm2:2"), version(number=2), first, START.replace(hour=13))
    assert (changed.generation, changed.version, changed.created_at) == (2, 2, START)
