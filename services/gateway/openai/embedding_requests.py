"""The bodies of OpenAI's embedding requests, and of vLLM's classify and rerank requests."""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.gateway.dialects.json_values import are_ids
from services.gateway.dialects.text_list import MAX_INPUTS, STRINGS, Strings, strings
from services.gateway.http.body import parse_body
from services.gateway.http.parameters import Ignored
from services.gateway.openai.parameters import REQUEST

Text = str | tuple[int, ...]


def _texts(given: object) -> object:
    """Any of OpenAI's four forms as a tuple of texts, each a string or token ids."""
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list) or not given:
        msg = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
        raise ValueError(msg)
    texts = [given] if are_ids(given) else given
    if len(texts) > MAX_INPUTS:
        msg = f"there are {len(texts)} texts; at most {MAX_INPUTS} go into one request"
        raise ValueError(msg)
    kinds = {type(item) for item in texts}
    if kinds - {str, list} or len(kinds) > 1:
        msg = "all texts must be strings, or all lists of token ids"
        raise ValueError(msg)
    for index, item in enumerate(texts):
        if isinstance(item, list) and not are_ids(item):
            msg = f"text {index} must be a string, or a list of one or more token ids"
            raise ValueError(msg)
    return tuple(tuple(item) if isinstance(item, list) else item for item in texts)


_FORMS = {
    "anyOf": [
        *STRINGS["anyOf"],
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    ]
}


def _truncation(tokens: int) -> int:
    if tokens != -1 and not 1 <= tokens < 1 << 31:
        msg = "expected the number of tokens to keep, or -1 for as many as the model takes"
        raise ValueError(msg)
    return tokens


class EncoderRequest(BaseModel):
    """The fields that all requests to encoders have."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str
    user: Annotated[str | None, Ignored("tenants are keys")] = None
    truncate_prompt_tokens: Annotated[int, AfterValidator(_truncation)] | None = None
    """vLLM's: tokens to keep of a longer text, -1: as many as the model takes. Without it such a text is an error."""


class EmbeddingRequest(EncoderRequest):
    """The body of `/v1/embeddings`."""

    input: Annotated[tuple[Text, ...], BeforeValidator(_texts), WithJsonSchema(_FORMS)]
    encoding_format: Literal["float", "base64"] | None = None
    """Default: float. base64 is of little-endian float32."""
    dimensions: int | None = Field(default=None, ge=1)
    """The first numbers of each embedding to keep, normalised again."""

    @property
    def strings(self) -> tuple[str, ...] | None:
        """The texts, if they are strings."""
        return tuple(text for text in self.input if isinstance(text, str)) or None

    @property
    def token_ids(self) -> tuple[tuple[int, ...], ...] | None:
        """The texts, if they are token ids."""
        return tuple(text for text in self.input if not isinstance(text, str)) or None


class ClassifyRequest(EncoderRequest):
    """The body of `/v1/classify`."""

    input: Strings


def _documents(given: object) -> object:
    if not isinstance(given, list) or not given:
        msg = "expected a list of one or more documents"
        raise ValueError(msg)
    return strings([item.get("text") if isinstance(item, dict) else item for item in given])


class RerankRequest(EncoderRequest):
    """The body of `/v1/rerank`, as Jina, Cohere and vLLM have it."""

    query: str
    documents: Annotated[
        tuple[str, ...],
        BeforeValidator(_documents),
        WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}}),
    ]
    top_n: int | None = Field(default=None, ge=1)
    """Results to return; default: all."""
    return_documents: bool | None = None
    """Whether results carry their texts; default: yes, as with vLLM."""


Kind = TypeVar("Kind", bound=EncoderRequest)


def parse(kind: type[Kind], body: bytes) -> Kind:
    """The request in a body; raises `InvalidInput` naming the parameter that is wrong, unknown or not supported."""
    return parse_body(kind, body, REQUEST)
