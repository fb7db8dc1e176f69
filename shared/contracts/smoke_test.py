"""What a version gave for a few tokens when it was imported; a replica repeats it before it is ready."""

from shared.contracts.base import Contract


class SmokeTest(Contract):
    """A prompt, and the decoder's greedy answer or the encoder's output."""

    prompt: tuple[int, ...]
    """Token ids, special tokens included. Of a graph with named tensors: the length of each dimension that a request
    chooses (`shared.sample_tensors`)."""
    answer: tuple[int, ...] = ()
    """Of a decoder: the likeliest token after the prompt, then after the prompt and that token, …"""
    logprob: float = 0.0
    """Of a decoder: mean natural logarithm of the probabilities of `answer`."""
    exact: bool = False
    """Of a decoder: whether it gave the same bits token by token and in one chunk."""
    output: tuple[float, ...] = ()
    """Of an encoder: the first numbers of its output, where it has one per token those of the first token. Of a graph
    with named tensors: the first numbers of each output that has numbers."""
    runtime: str
    """What computed it: ONNX Runtime's version and the kind of processor. Another may round differently."""


SmokeTest.EXAMPLE = SmokeTest(
    prompt=(504, 3575, 282, 4649, 314),
    answer=(7042, 30),
    logprob=-0.41,
    exact=True,
    runtime="onnxruntime 1.31.1, x86_64",
)
