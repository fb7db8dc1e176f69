import pytest

from services.scheduler.policy.desired import desired
from shared.contracts.manifest import CudaNeed, DecoderSpec, Manifest
from shared.contracts.registry import ModelVersion
from shared.contracts.scheduler import Deploy
from shared.errors import InvalidInput
from tests.support.factories.scheduling import START


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
    encoder = encoder.model_copy(update={"manifest": encoder.manifest.model_copy(update={"task": "embed"})})
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


def test_a_change_raises_the_generation_and_keeps_the_time_of_creation():
    first = desired(Deploy(reference="smollm2"), version(), None, START)
    changed = desired(Deploy(reference="smollm2:2"), version(number=2), first, START.replace(hour=13))
    assert (changed.generation, changed.version, changed.created_at) == (2, 2, START)
