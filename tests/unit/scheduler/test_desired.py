import pytest

from services.scheduler.policy.desired import desired, rolled_back
from shared.contracts.manifest import CudaNeed, DecoderSpec, EncoderSpec, Manifest
from shared.contracts.registry import ModelVersion
from shared.contracts.scheduler import Deploy, Deployment
from shared.errors import Conflict, InvalidInput
from tests.support.factories.scheduling import START

ENCODER = {"task": "embed", "format": "onnx-encoder", "encoder": EncoderSpec.EXAMPLE, "decoder": None}


def version(*, context_length: int = 8192, number: int = 1, cuda: CudaNeed | None = None) -> ModelVersion:
    decoder = DecoderSpec.EXAMPLE.model_copy(update={"context_length": context_length})
    manifest = Manifest.EXAMPLE.model_copy(update={"decoder": decoder, "cuda": cuda})
    return ModelVersion.EXAMPLE.model_copy(update={"manifest": manifest, "version": number})


def test_the_name_is_the_models_unless_given():
    assert desired(Deploy(reference="smollm2"), version(), None, START).name == "smollm2"
    assert desired(Deploy(reference="smollm2", name="chat"), version(), None, START).name == "chat"


def test_max_len_is_the_context_length_but_at_most_4096():
    assert desired(Deploy(reference="smollm2"), version(context_length=2048), None, START).options.max_len == 2048
    assert desired(Deploy(reference="smollm2"), version(context_length=8192), None, START).options.max_len == 4096


def test_a_max_len_above_the_context_length_names_both():
    with pytest.raises(InvalidInput, match=r"max_len 9000 .* smollm2:1, which is 8192 tokens") as caught:
        desired(Deploy(reference="smollm2", max_len=9000), version(), None, START)
    assert caught.value.param == "max_len"


def test_memory_is_what_the_manifest_says_for_these_slots_and_the_prefix_cache():
    request = Deploy(reference="smollm2", slots=2, max_len=100, prefix_cache=5_000_000)
    record = desired(request, version(), None, START)
    need = Manifest.EXAMPLE.memory
    fixed = need.process + need.weights + need.activations
    assert record.resources.memory == fixed + 2 * (need.per_slot + 100 * need.kv_per_token) + 5_000_000
    assert record.options.prefix_cache == 5_000_000


def test_the_prefix_cache_is_a_quarter_of_the_slots_memory_but_at_most_a_gibibyte():
    per_token = Manifest.EXAMPLE.memory.kv_per_token
    small = desired(Deploy(reference="smollm2", slots=2, max_len=100), version(), None, START)
    assert small.options.prefix_cache == 2 * 100 * per_token // 4
    large = desired(Deploy(reference="smollm2", slots=64, max_len=8192), version(), None, START)
    assert large.options.prefix_cache == 1 << 30
    none = desired(Deploy(reference="smollm2", prefix_cache=0), version(), None, START)
    assert none.options.prefix_cache == 0


def test_only_what_generates_is_computed_ahead():
    assert desired(Deploy(reference="smollm2"), version(), None, START).options.draft_tokens == 7
    assert desired(Deploy(reference="smollm2", draft_tokens=2), version(), None, START).options.draft_tokens == 2
    encoder = version()
    encoder = encoder.model_copy(update={"manifest": encoder.manifest.model_copy(update=ENCODER)})
    assert desired(Deploy(reference="minilm"), encoder, None, START).options.draft_tokens == 0


def test_without_a_graph_for_cuda_auto_means_the_cpu_and_cuda_is_refused():
    record = desired(Deploy(reference="smollm2"), version(), None, START)
    assert (record.options.device, record.gpu_resources) == ("cpu", None)
    with pytest.raises(InvalidInput, match=r"smollm2:1 has no graph for CUDA; import the model again with --cuda"):
        desired(Deploy(reference="smollm2", device="cuda"), version(), None, START)


def test_a_version_with_a_graph_for_cuda_asks_for_memory_of_both_kinds():
    both = version(cuda=CudaNeed.EXAMPLE)
    request = Deploy(reference="smollm2", slots=2, max_len=100, prefix_cache=7)
    record = desired(request, both, None, START)
    gpu = CudaNeed.EXAMPLE.gpu
    assert record.options.device == "auto"
    assert record.gpu_resources.memory == CudaNeed.EXAMPLE.host + 7
    assert record.gpu_resources.gpu_memory == gpu.replica_bytes(slots=2, max_len=100)
    assert desired(request.model_copy(update={"device": "cpu"}), both, None, START).gpu_resources is None


def test_threads_are_reserved_only_when_asked_for():
    assert desired(Deploy(reference="smollm2"), version(), None, START).resources.threads == 0
    assert desired(Deploy(reference="smollm2", threads=3), version(), None, START).resources.threads == 3


def test_the_same_request_again_is_the_same_record():
    first = desired(Deploy(reference="smollm2"), version(), None, START)
    again = desired(Deploy(reference="smollm2"), version(), first, START.replace(hour=13))
    assert again == first


def test_a_change_raises_the_revision_and_keeps_the_time_of_creation():
    first = desired(Deploy(reference="smollm2"), version(), None, START)
    changed = desired(Deploy(reference="smollm2:2"), version(number=2), first, START.replace(hour=13))
    assert (changed.revision, changed.version, changed.created_at) == (2, 2, START)


def test_what_a_change_does_not_name_stays_as_it_was_named():
    first = desired(Deploy(reference="smollm2", replicas=2, slots=8, max_len=2048), version(), None, START)
    changed = desired(Deploy(reference="smollm2:2", threads=1), version(number=2), first, START)
    assert (changed.version, changed.replicas) == (2, 2)
    assert (changed.options.slots, changed.options.max_len, changed.options.threads) == (8, 2048, 1)


def test_what_was_never_named_is_the_default_of_the_new_version():
    first = desired(Deploy(reference="smollm2", slots=8), version(context_length=2048), None, START)
    changed = desired(Deploy(reference="smollm2:2"), version(number=2, context_length=4096), first, START)
    assert (first.options.max_len, changed.options.max_len) == (2048, 4096)
    assert changed.options.prefix_cache > first.options.prefix_cache


def test_a_reset_gives_defaults_to_what_is_not_named():
    first = desired(Deploy(reference="smollm2", replicas=3, slots=8, max_len=2048), version(), None, START)
    changed = desired(Deploy(reference="smollm2", slots=4, reset=True), version(), first, START)
    assert (changed.replicas, changed.options.slots, changed.options.max_len) == (1, 4, 4096)


def test_records_from_before_options_were_told_apart_keep_all_of_theirs():
    first = desired(Deploy(reference="smollm2", slots=8, max_len=100), version(), None, START)
    old = first.model_dump(mode="json", exclude={"asked", "revision", "previous"}) | {"generation": 7}
    changed = desired(Deploy(reference="smollm2:2"), version(number=2), Deployment.model_validate(old), START)
    assert (changed.revision, changed.options.slots, changed.options.max_len) == (8, 8, 100)


def test_a_rollback_brings_the_previous_revision_back_whole_and_another_undoes_it():
    first = desired(Deploy(reference="smollm2", replicas=2, slots=8), version(), None, START)
    second = desired(Deploy(reference="smollm2:2", replicas=0, slots=1, by="key-a"), version(number=2), first, START)
    third = rolled_back(second, by="key-b")
    assert (third.revision, third.version, third.replicas, third.options) == (3, 1, 2, first.options)
    assert third.changed_by == "key-b"
    fourth = rolled_back(third, by="key-b")
    assert (fourth.version, fourth.replicas, fourth.options) == (2, 0, second.options)
    assert fourth.previous.previous is None


def test_without_an_earlier_revision_there_is_nothing_to_go_back_to():
    with pytest.raises(Conflict, match="one revision only"):
        rolled_back(desired(Deploy(reference="smollm2"), version(), None, START), by="")


def test_a_change_that_expects_another_revision_is_refused_and_says_who_made_this_one():
    first = desired(Deploy(reference="smollm2", by="key-a"), version(), None, START)
    with pytest.raises(Conflict, match="revision 4 of smollm2 was expected, and it has revision 1, made by key-a"):
        desired(Deploy(reference="smollm2", slots=2, if_revision=4), version(), first, START)
    with pytest.raises(Conflict, match="it has revision 1"):
        desired(Deploy(reference="smollm2", if_revision=0), version(), first, START)
    with pytest.raises(Conflict, match="there is no such deployment"):
        desired(Deploy(reference="smollm2", if_revision=1), version(), None, START)
    assert desired(Deploy(reference="smollm2", slots=2, if_revision=1), version(), first, START).revision == 2


def test_a_name_added_to_a_value_that_stands_already_is_no_new_revision():
    first = desired(Deploy(reference="smollm2"), version(), None, START)
    named = desired(Deploy(reference="smollm2", slots=16), version(), first, START)
    assert (named.revision, named.asked.slots) == (1, 16)
