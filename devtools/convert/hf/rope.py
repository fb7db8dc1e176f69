"""Rotary embeddings as a Hugging Face `config.json` describes them (transformers' `modeling_rope_utils.py`)."""

from devtools.convert.decoder.rope import Rope, Yarn, llama3, plain, yarn_magnitude
from devtools.convert.fields import Fields
from shared.errors import CorruptFile, UnsupportedFormat

_KINDS = "default, linear, llama3, yarn"


def read_rope(parameters: Fields, name: str, *, base: float, head_dim: int, context_length: int) -> Rope:
    """The rotation that `rope_scaling` (transformers 4) or `rope_parameters` (5) asks for.

    Args:
        parameters: That object's fields; empty for no scaling.
        name: What to call the rotation.
        base: `rope_theta`, unless the parameters have one.
        head_dim: Dimensions of a head.
        context_length: `max_position_embeddings`.

    Raises:
        UnsupportedFormat: a kind of scaling that is not supported.
        CorruptFile: a parameter is missing or impossible.
    """
    base = parameters.positive("rope_theta", base, above=1)
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    frequencies = plain(base, head_dim)
    if kind == "default":
        return Rope(name, frequencies)
    if kind == "linear":
        return Rope(name, frequencies / parameters.positive("factor"))
    if kind == "llama3":
        low, high = parameters.positive("low_freq_factor"), parameters.positive("high_freq_factor")
        if low >= high:
            raise CorruptFile(
                f"'high_freq_factor' is {high}; it must be above 'low_freq_factor', {low}", param="source"
            )
        original = parameters.count("original_max_position_embeddings")
        return Rope(
            name, llama3(frequencies, factor=parameters.positive("factor"), low=low, high=high, original=original)
        )
    if kind == "yarn":
        yarn = _yarn(parameters, context_length)
        return Rope(name, yarn.scale(base, head_dim), _magnitude(parameters, yarn))
    raise UnsupportedFormat(f"rope scaling of type {kind!r} is not supported; supported: {_KINDS}", param="source")


def scaled_context(parameters: Fields, context_length: int) -> int:
    """Tokens of the longest context: `max_position_embeddings`, made longer where the scaling is an addition to it.

    The model cards of Qwen2.5 and 3 ask for YaRN without changing `max_position_embeddings`; Llama 3.1's has the
    scaled length already.
    """
    kind = parameters.get("rope_type") or parameters.get("type")
    if kind != "yarn":
        return context_length
    yarn = _yarn(parameters, context_length)
    return max(context_length, int(yarn.original * yarn.factor))


def _yarn(parameters: Fields, context_length: int) -> Yarn:
    return Yarn(
        factor=parameters.positive("factor"),
        original=parameters.count("original_max_position_embeddings", context_length),
        fast=parameters.positive("beta_fast", 32.0),
        slow=parameters.positive("beta_slow", 1.0),
        rounded=parameters.flag("truncate", default=True),
    )


def _magnitude(parameters: Fields, yarn: Yarn) -> float:
    if parameters.get("attention_factor") is not None:
        return parameters.positive("attention_factor")
    if parameters.get("mscale") and parameters.get("mscale_all_dim"):
        over, under = parameters.positive("mscale"), parameters.positive("mscale_all_dim")
        return yarn_magnitude(yarn.factor, over) / yarn_magnitude(yarn.factor, under)
    return yarn.magnitude
