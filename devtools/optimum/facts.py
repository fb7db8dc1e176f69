"""What the export says of a model, as the specification and the defaults of its version."""

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from devtools.convert.sampling_defaults import read_defaults
from shared.contracts.manifest import Seq2SeqSpec, SpeechSpec
from shared.errors import UnsupportedFormat

_WHERE = "generation_config.json"
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_new_tokens",
}


def read_spec(facts: Mapping[str, Any], tokenizer: Tokenizer) -> Seq2SeqSpec:
    """The specification; raises `UnsupportedFormat` for what a generation configuration asks for and LLMOS lacks."""
    generation = facts["generation"]
    start = generation.get("decoder_start_token_id", generation.get("bos_token_id"))
    if not isinstance(start, int):
        raise UnsupportedFormat(f"{_WHERE}: decoder_start_token_id is missing", param="source")
    speech = _speech(facts, generation, tokenizer, start)
    forced = generation.get("forced_bos_token_id")
    bad_words = generation.get("bad_words_ids") or []
    longer = [words for words in bad_words if len(words) != 1]
    if longer:
        raise UnsupportedFormat(f"{_WHERE}: bad_words_ids with several tokens are not supported", param="source")
    return Seq2SeqSpec(
        layers=facts["layers"],
        heads=facts["heads"],
        head_dim=facts["head_dim"],
        hidden_size=facts["hidden_size"],
        vocab_size=facts["vocab_size"],
        context_length=facts["positions"],
        source_length=facts["source_positions"],
        prefix=(start,) if forced is None or speech else (start, forced),
        eos_token_ids=_ids(generation.get("eos_token_id")),
        suppressed_token_ids=(*_ids(generation.get("suppress_tokens")), *(words[0] for words in bad_words)),
        begin_suppressed_token_ids=_ids(generation.get("begin_suppress_tokens")),
        no_repeat_ngram_size=generation.get("no_repeat_ngram_size") or 0,
        speech=speech,
    )


def read_sampling(facts: Mapping[str, Any], spec: Seq2SeqSpec) -> dict[str, float | int | str]:
    """`Manifest.defaults`: greedy unless the configuration samples, as transformers does.

    `max_length` counts the decoder's prefix, `min_length` too.
    """
    values = dict(facts["generation"])
    if "max_new_tokens" not in values and isinstance(values.get("max_length"), int):
        values["max_new_tokens"] = max(1, min(values["max_length"], spec.context_length) - len(spec.prefix))
    defaults = read_defaults(values, _SAMPLING, where=_WHERE)
    if not values.get("do_sample"):
        defaults = {name: value for name, value in defaults.items() if name not in ("top_p", "top_k")}
        defaults["temperature"] = 0.0
    if isinstance(values.get("min_length"), int) and values["min_length"] > len(spec.prefix):
        defaults["min_tokens"] = values["min_length"] - len(spec.prefix)
    return defaults


def _ids(value: object) -> tuple[int, ...]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(token for token in listed if isinstance(token, int) and token >= 0)


def _speech(
    facts: Mapping[str, Any], generation: Mapping[str, Any], tokenizer: Tokenizer, start: int
) -> SpeechSpec | None:
    if facts["model_type"] != "whisper":
        return None
    no_timestamps = generation.get("no_timestamps_token_id", tokenizer.token_to_id("<|notimestamps|>"))
    languages = {token.strip("<|>"): number for token, number in (generation.get("lang_to_id") or {}).items()}
    tasks = generation.get("task_to_id") or {}
    return SpeechSpec(
        mel_bins=facts["mel_bins"],
        start_token_id=start,
        languages=languages if generation.get("is_multilingual", bool(languages)) else {},
        transcribe_token_id=tasks.get("transcribe"),
        translate_token_id=tasks.get("translate"),
        no_timestamps_token_id=no_timestamps,
        timestamp_token_id=None if no_timestamps is None else no_timestamps + 1,
        previous_token_id=tokenizer.token_to_id("<|startofprev|>"),
    )
