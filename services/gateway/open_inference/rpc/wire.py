"""How much work it is to parse a request for inference, told from its outermost fields.

A parser makes eight bytes of a number that took one, and sixteen of an empty string that took two. Raw contents are
copied as they are, however large they are.
"""

from services.gateway.open_inference.requests import MAX_TENSORS
from services.gateway.open_inference.rpc.open_inference_pb2 import ModelInferRequest
from shared.errors import InvalidInput, PayloadTooLarge

_RAW = (ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3) | 2
_FIELDS = 4 * MAX_TENSORS
"""Outermost fields of a message: inputs, outputs, raw contents and some parameters."""


def parse_infer(data: bytes, limit: int) -> ModelInferRequest:
    """The request in a message.

    Args:
        data: The message.
        limit: Bytes of it at most that are no raw contents.

    Raises:
        PayloadTooLarge: There are more.
        InvalidInput: It has more fields than a request may have.
        google.protobuf.message.DecodeError: It is no such message.
    """
    if len(data) > limit and len(data) - _raw_bytes(data) > limit:
        raise PayloadTooLarge(
            f"the message has more than {limit / (1 << 20):g} MiB beside raw_input_contents; send tensors there, and"
            " not in contents",
            param="inputs",
        )
    return ModelInferRequest.FromString(data)


def _raw_bytes(data: bytes) -> int:
    """Bytes of raw contents, as far as the outermost fields can be read."""
    at = raw = fields = 0
    while at < len(data):
        fields += 1
        if fields > _FIELDS:
            raise InvalidInput(f"the message has more than {_FIELDS} fields", param="inputs")
        tag, at = _varint(data, at)
        if tag & 7 != 2:  # all fields of a request have a length; a parser says what is wrong
            return raw
        length, at = _varint(data, at)
        at += length
        raw += length if tag == _RAW else 0
    return raw


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
