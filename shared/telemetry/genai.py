"""Every `gen_ai.*` and `llmos.*` name, in one place: the GenAI conventions are still in development.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/. Spans are named `chat {model}`.
"""

from typing import Final

# --- gen_ai: the request -----------------------------------------------------------------------------------------
OPERATION_NAME: Final = "gen_ai.operation.name"
OPERATION_CHAT: Final = "chat"
OPERATION_TEXT_COMPLETION: Final = "text_completion"
OPERATION_EMBEDDINGS: Final = "embeddings"
OPERATION_CLASSIFY: Final = "classify"
OPERATION_INFER: Final = "infer"
"""Of a graph with named tensors; not among the conventions."""
PROVIDER_NAME: Final = "gen_ai.provider.name"
PROVIDER_LLMOS: Final = "llmos"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"

# --- gen_ai: the response ----------------------------------------------------------------------------------------
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
"""A list with one reason per choice."""
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

# --- gen_ai: the buckets that the conventions ask for in metrics -------------------------------------------------
BUCKETS_REQUEST_DURATION: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
    *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
"""Seconds."""
BUCKETS_TIME_TO_FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Seconds."""
BUCKETS_TIME_PER_OUTPUT_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Seconds."""

# --- general -----------------------------------------------------------------------------------------------------
ERROR_TYPE: Final = "error.type"
"""An error's `code`, such as `overloaded`."""

ERROR_MESSAGE: Final = "error.message"
"""Why a request was refused or failed, in words."""
HTTP_STATUS: Final = "http.response.status_code"

# --- llmos: what is ours -----------------------------------------------------------------------------------------
REQUEST_ID: Final = "llmos.request.id"
API_KEY_ID: Final = "llmos.api_key.id"
DEPLOYMENT: Final = "llmos.deployment"
REPLICA: Final = "llmos.replica"
NODE: Final = "llmos.node"
MODEL: Final = "llmos.model"
MODEL_VERSION: Final = "llmos.model.version"
DATASET: Final = "llmos.dataset"
DATASET_VERSION: Final = "llmos.dataset.version"
BYTES: Final = "llmos.bytes"
GRANTED_MEMORY: Final = "llmos.granted.memory"
"""Bytes."""
GRANTED_THREADS: Final = "llmos.granted.threads"
DEVICE: Final = "llmos.device"
REPORT: Final = "llmos.report"
REPORT_VERSION: Final = "llmos.report.version"
TEXTS: Final = "llmos.texts"
"""Of a request to an encoder."""
ROWS: Final = "llmos.rows"
"""Of a request to a graph with named tensors."""
PROMPT_TOKENS: Final = "llmos.prompt_tokens"
COMPLETION_TOKENS: Final = "llmos.completion_tokens"
CACHED_TOKENS: Final = "llmos.cached_tokens"
RESUMED_TOKENS: Final = "llmos.resumed_tokens"
TOKENS_PER_SECOND: Final = "llmos.tokens_per_second"
QUEUE_S: Final = "llmos.queue_s"
"""Seconds between acceptance and the first step."""
PREFILL_S: Final = "llmos.prefill_s"
DECODE_S: Final = "llmos.decode_s"
BATCH_MAX: Final = "llmos.batch.max"
"""Most sequences that shared a step with this one."""
BATCH_MEAN: Final = "llmos.batch.mean"
CANDIDATES: Final = "llmos.routing.candidates"
"""Ready replicas that the router chose from."""
ATTEMPT: Final = "llmos.routing.attempt"
"""1 on the first replica that was asked."""
ROUTING_REASON: Final = "llmos.routing.reason"
"""Why this replica: `prefix`, `least_tokens`, …"""
