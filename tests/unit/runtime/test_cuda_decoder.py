"""The decoder as it runs on a GPU, as far as a CPU can show it: the same code on float16 tensors in host memory."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from gguf import GGMLQuantizationType as Type
from onnx import TensorProto, helper, numpy_helper

from devtools.convert import add_cuda_graph, convert_gguf
from devtools.convert.cuda.graph import check_kernels
from services.inference.runtime import session as sessions
from services.inference.runtime.cuda import CudaDevice, DeviceInputs
from services.inference.runtime.onnx_decoder import OnnxDecoder
from services.inference.runtime.session import CUDA, cuda_options, nodes_elsewhere
from shared.errors import InvalidInput, UnsupportedFormat
from tests.support.factories.spans import prefill
from tests.support.fakes.host_as_gpu import HostAsGpu
from tests.support.models.llama_files import HIDDEN, VOCABULARY, write_llama

GIB = 1 << 30
PROMPT = list(range(5, 45))


@pytest.fixture(scope="module", params=[Type.F32, Type.Q4_1, Type.Q8_0], ids=lambda kind: kind.name)
def version(tmp_path_factory, request):
    """(folder, manifest) of a small model with graphs for both devices."""
    folder = tmp_path_factory.mktemp("small")
    manifest = convert_gguf(write_llama(folder / "small.gguf", request.param), folder / "version")
    return folder / "version", add_cuda_graph(folder / "version", manifest)


@pytest.fixture
def open_decoder(version):
    folder, manifest = version
    opened = []

    def make(device=None, **options):
        decoder = OnnxDecoder(
            folder, manifest.the_decoder, **({"slots": 4, "max_len": 64, "threads": 1} | options), device=device
        )
        opened.append(decoder)
        return decoder

    yield make
    for decoder in opened:
        decoder.close()


def close(halved, whole):
    """Whether logits agree to the rounding of float16, and of int8 inputs where matrices are quantised."""
    return np.sqrt(np.mean((halved - whole) ** 2)) < 0.03 * whole.std()


def test_the_second_graph_is_listed_checked_and_asks_for_memory_of_a_gpu(version):
    folder, manifest = version
    paths = {file.path: file for file in manifest.files}
    assert {"model.onnx", "model.cuda.onnx", "model.cuda.onnx.data"} <= paths.keys()
    assert all((folder / path).stat().st_size == file.size for path, file in paths.items())
    assert manifest.metrics["logits_error_half"] < 0.02
    assert manifest.cuda.gpu.kv_per_token == manifest.memory.kv_per_token
    assert manifest.cuda.host > manifest.memory.grammars  # made on the host also there
    graph = onnx.load(folder / "model.cuda.onnx", load_external_data=False).graph
    assert {put.type.tensor_type.elem_type for put in graph.input if put.name.startswith("past")} == {
        TensorProto.FLOAT16
    }
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert not [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]


def test_the_second_graph_needs_no_other_file_and_no_operators_of_ours(version):
    folder, _ = version
    model = onnx.load(folder / "model.cuda.onnx", load_external_data=False)
    assert {opset.domain for opset in model.opset_import} == {"", "com.microsoft"}
    assert {node.domain for node in model.graph.node} == {"", "com.microsoft"}
    places = [tensor.external_data for tensor in model.graph.initializer if tensor.external_data]
    files = {entry.value for place in places for entry in place if entry.key == "location"}
    assert files == {"model.cuda.onnx.data"}


def test_the_need_counts_what_is_copied_to_a_gpu_and_the_largest_matrix_in_float16(version):
    folder, manifest = version
    model = onnx.load(folder / "model.cuda.onnx")  # with the external data in it
    need = manifest.cuda.gpu
    assert need.weights == sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    quantised = any(node.op_type == "MatMulNBits" for node in model.graph.node)
    assert need.activations - manifest.memory.activations == (2 * VOCABULARY * HIDDEN if quantised else 0)


def test_it_decodes_what_the_cpu_decodes(open_decoder):
    whole, halved = open_decoder(), open_decoder(HostAsGpu(GIB))
    assert whole.batch_invariant
    assert not halved.batch_invariant, "in float16 a few tokens can't show it"
    for slot in range(3):
        prompt = PROMPT[: 10 + 9 * slot]
        a = prefill(whole, slot, prompt).copy()
        assert close(prefill(halved, slot, prompt), a)
    for batch in (3, 1, 2):
        tokens, positions = [7, 8, 9][:batch], [10, 19, 28][:batch]
        a = whole.decode(tokens, positions).copy()
        b = halved.decode(tokens, positions)
        assert b.dtype == np.float32
        assert close(b, a)


def test_a_prompt_in_chunks_and_all_its_logits_are_the_same(open_decoder):
    halved = open_decoder(HostAsGpu(GIB))
    once = prefill(halved, 0, PROMPT).copy()
    every = prefill(halved, 1, PROMPT, logits=len(PROMPT))
    assert close(every[-1:], once)
    for start in range(0, len(PROMPT), 16):
        chunk = PROMPT[start : start + 16]
        logits = prefill(halved, 2, chunk, start)
    assert close(logits, once)


def test_a_moved_slot_and_one_from_blocks_go_on_as_if_they_had_stayed(open_decoder):
    halved = open_decoder(HostAsGpu(GIB))
    halved.reserve_blocks(3, 16)
    prefill(halved, 0, PROMPT)
    expected = halved.decode([5], [len(PROMPT)]).copy()
    prefill(halved, 3, PROMPT)
    for block in range(3):  # the last one is half full
        halved.store(3, 16 * block, block)
    halved.release(0)
    prefill(halved, 0, [99] * 50)
    halved.move(3, 0, len(PROMPT))
    assert np.array_equal(halved.decode([5], [len(PROMPT)]), expected)
    prefill(halved, 0, [98] * 50)
    for block in range(3):
        halved.fetch(block, 0, 16 * block)
    assert np.array_equal(halved.decode([5], [len(PROMPT)]), expected)


def test_a_block_at_the_end_of_a_slot_is_copied_as_far_as_the_slot_goes(open_decoder):
    halved = open_decoder(HostAsGpu(GIB), slots=2, max_len=20)
    halved.reserve_blocks(1, 16)
    prefill(halved, 1, PROMPT[:20])
    before = [value.numpy().copy() for value in halved._kv._values]
    halved.store(0, 16, 0)  # slot 0 lies before slot 1: its last block must not reach into it
    halved.fetch(0, 0, 16)
    assert all(np.array_equal(a, value.numpy()) for a, value in zip(before, halved._kv._values, strict=True))


def test_the_graph_reads_device_tensors_and_not_the_arrays(open_decoder):
    ids, lengths = np.arange(4), np.zeros(3, np.int32)
    inputs = DeviceInputs((ids, lengths), memory="cpu")
    assert inputs.address(ids) != ids.ctypes.data
    assert inputs.address(ids[2:]) == inputs.address(ids) + 16
    ids[:] = 9
    assert inputs._values[0].numpy().tolist() == [0, 1, 2, 3]
    inputs.send()
    assert inputs._values[0].numpy().tolist() == [9, 9, 9, 9]
    with pytest.raises(ValueError, match="none of the inputs"):
        inputs.address(np.zeros(2))


def test_cuda_that_is_not_there_is_an_error_that_says_what_to_do(open_decoder):
    with pytest.raises(
        InvalidInput, match=r"CUDA was asked for, but ONNX Runtime .* install 'llmos\[inference-gpu\]'"
    ):
        open_decoder(CudaDevice(GIB))


def test_cuda_that_can_not_start_is_never_replaced_by_the_cpu(open_decoder, monkeypatch):
    monkeypatch.setattr(sessions, "has_cuda", lambda: True)  # built with CUDA, but without a driver
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(InvalidInput, match="could not start"),
    ):
        open_decoder(CudaDevice(GIB))


def test_a_grant_that_keys_and_values_fill_is_refused(open_decoder):
    with pytest.raises(InvalidInput, match="were granted; choose fewer slots or a smaller max_len"):
        open_decoder(CudaDevice(10_000))


def test_the_provider_stays_within_what_keys_and_values_leave_of_the_grant():
    options = cuda_options(5 * GIB)
    assert options["gpu_mem_limit"] == str(5 * GIB)
    assert all(isinstance(value, str) for value in options.values())


def test_nodes_that_another_provider_computes_are_named(version):
    folder, _ = version
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(folder / "model.cuda.onnx", options, providers=["CPUExecutionProvider"])
    assert not nodes_elsewhere(session, "CPUExecutionProvider")
    misplaced = nodes_elsewhere(session, CUDA)
    assert any("GroupQueryAttention, CPUExecutionProvider" in name for name in misplaced)


def test_a_graph_with_a_node_that_has_no_kernel_is_refused():
    check_kernels([helper.make_node("MatMulNBits", ["x"], ["y"], domain="com.microsoft")])
    with pytest.raises(
        UnsupportedFormat, match="no CUDA kernel for float16 of MatMulInteger; import this model without"
    ):
        check_kernels([helper.make_node("MatMulInteger", ["x"], ["y"])])
