"""The routes of OpenAI's API."""

from services.gateway.dispatch.encodings import Encodings
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.tokenizations import Tokenizations
from services.gateway.http.operation import STREAM, Operation
from services.gateway.openai.chat import ChatApi
from services.gateway.openai.completions import CompletionsApi
from services.gateway.openai.embedding_requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from services.gateway.openai.embeddings import EmbeddingsApi
from services.gateway.openai.models import ModelsApi
from services.gateway.openai.parameters import REQUEST
from services.gateway.openai.requests import ChatRequest, CompletionRequest
from services.gateway.openai.tokenization import DetokenizeRequest, TokenizationApi, TokenizeRequest
from services.gateway.routing.live_table import LiveTable

_CHAT = "Answer a conversation, as OpenAI does"
_COMPLETE = "Continue texts, as OpenAI does"
_EMBED = "Embed texts, as OpenAI does"
_CLASSIFY = "Classify texts, as vLLM does"
_TOKENIZE = "The token ids of a text or a conversation, as vLLM has it"
_DETOKENIZE = "The text of token ids, as vLLM has it"
_TOKENIZER = "The tokenizer's special tokens and chat template, as vLLM has it"
_RERANK_PATHS = ("/v1/rerank", "/rerank", "/v2/rerank")
"""Jina's, vLLM's and Cohere's."""
_RERANK = "Order documents by how well they answer a query, as Jina and vLLM do"


def routes(
    generations: Generations,
    encodings: Encodings,
    tokenizations: Tokenizations,
    table: LiveTable,
    max_body: int,
) -> list[Operation]:
    """The operations.

    Args:
        generations: Generate text.
        encodings: Embed and classify texts.
        tokenizations: Ask the tokenizers of deployments.
        table: The deployments.
        max_body: Bytes of a request at most.
    """
    chat = ChatApi(generations, max_body).create
    complete = CompletionsApi(generations, max_body).create
    encoders, models, tag = EmbeddingsApi(encodings, max_body), ModelsApi(table), "inference"
    tokens = TokenizationApi(tokenizations, max_body)
    return [
        Operation(
            "POST", "/v1/chat/completions", chat, _CHAT, tag, body=ChatRequest, result=STREAM, parameters=REQUEST
        ),
        Operation(
            "POST",
            "/v1/completions",
            complete,
            _COMPLETE,
            tag,
            body=CompletionRequest,
            result=STREAM,
            parameters=REQUEST,
        ),
        Operation("POST", "/v1/embeddings", encoders.embed, _EMBED, tag, body=EmbeddingRequest, parameters=REQUEST),
        Operation(
            "POST", "/v1/classify", encoders.classify, _CLASSIFY, tag, body=ClassifyRequest, parameters=REQUEST
        ),
        *(
            Operation("POST", path, encoders.rerank, _RERANK, tag, body=RerankRequest, parameters=REQUEST)
            for path in _RERANK_PATHS
        ),
        Operation("GET", "/v1/models", models.list, "The models that can be asked", tag),
        Operation("GET", "/v1/models/{model}", models.show, "One model", tag),
        Operation("POST", "/tokenize", tokens.tokenize, _TOKENIZE, tag, body=TokenizeRequest, parameters=REQUEST),
        Operation(
            "POST", "/detokenize", tokens.detokenize, _DETOKENIZE, tag, body=DetokenizeRequest, parameters=REQUEST
        ),
        Operation("GET", "/tokenizer_info", tokens.info, _TOKENIZER, tag, query={"model": "A deployment"}),
    ]
