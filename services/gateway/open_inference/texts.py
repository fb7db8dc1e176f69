"""An encoder's texts, embeddings and scores as tensors: what its replica describes itself as."""

import base64
from collections.abc import Sequence

import numpy as np
import orjson

from services.gateway.dialects.text_list import MAX_INPUTS
from shared.contracts.embedding import Classified, Embedded
from shared.contracts.manifest import EMBEDDING, LABEL, SCORES, TEXT, TOKENS
from shared.contracts.tensor import Tensor
from shared.errors import InvalidInput
from shared.tensors import describe, pack, texts, unpack

Outputs = dict[str, tuple[Tensor, bytes]]


def read_texts(inputs: Sequence[Tensor], buffers: Sequence[bytes]) -> list[str]:
    """The texts of a request.

    Raises:
        InvalidInput: It has another input than `text` of BYTES [n], or [n, 1] as Triton's clients send columns.
    """
    expected = f"expected BYTES [1 to {MAX_INPUTS}]"
    for tensor in inputs:
        if tensor.name != TEXT:
            raise InvalidInput(
                f"the model has no input {tensor.name!r:.100}; it takes {TEXT} (BYTES [any])", param=tensor.name[:100]
            )
    if len(inputs) != 1:
        problem = "is missing" if not inputs else "is given twice"
        raise InvalidInput(f"the input {TEXT!r} {problem}: {expected}", param=TEXT)
    tensor, buffer = inputs[0], buffers[0]
    fits = len(tensor.shape) in (1, 2) and tensor.shape[1:] in ((), (1,)) and 1 <= tensor.shape[0] <= MAX_INPUTS
    if tensor.datatype != "BYTES" or not fits:
        raise InvalidInput(f"the input {TEXT!r}: {expected}, got {describe(tensor):.200}", param=TEXT)
    return texts(tensor, unpack(tensor, buffer))


def embeddings(parts: Sequence[Embedded]) -> Outputs:
    """The embeddings as a tensor."""
    rows = [base64.b64decode(vector) for part in parts for vector in part.vectors]
    shape = (len(rows), len(rows[0]) // 4)
    return {EMBEDDING: (Tensor(name=EMBEDDING, datatype="FP32", shape=shape), b"".join(rows))}


def classes(parts: Sequence[Classified]) -> Outputs:
    """The scores of all labels, and the most probable label, as tensors; of tokens a JSON list for each text."""
    if parts[0].token_classes is not None:
        lists = [
            orjson.dumps([each.model_dump() for each in found])
            for part in parts
            for found in part.token_classes or ()
        ]
        return {TOKENS: (Tensor(name=TOKENS, datatype="BYTES", shape=(len(lists),)), pack(lists))}
    scores = np.array([row for part in parts for row in part.scores], "<f4")
    labels = [parts[0].labels[index].encode() for index in scores.argmax(axis=1)]
    return {
        SCORES: (Tensor(name=SCORES, datatype="FP32", shape=scores.shape), scores.tobytes()),
        LABEL: (Tensor(name=LABEL, datatype="BYTES", shape=(len(labels),)), pack(labels)),
    }


def chosen(outputs: Outputs, names: Sequence[str]) -> Outputs:
    """The outputs that a request names, or all; raises `InvalidInput` naming one that there is not."""
    for name in names:
        if name not in outputs:
            raise InvalidInput(
                f"the model has no output {name!r:.100}; it gives {', '.join(outputs)}", param="outputs"
            )
    return {name: outputs[name] for name in names or outputs}
