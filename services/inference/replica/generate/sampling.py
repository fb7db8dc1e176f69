"""A request's sampling as the engine takes it.

What a client left open is the version's to say, then ours: `generation_config.json` as vLLM reads it.

`Manifest.defaults` may name temperature, top_k, top_p, min_p, repetition_penalty and max_new_tokens. A value that the
client gives always wins; a default outside its range is an error of the version, logprobs when the replica starts.
"""

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from services.inference.engine.sampling.params import SamplingParams
from shared.contracts.manifest import DecoderSpec
from shared.contracts.replica import Sampling
from shared.errors import ContextLengthExceeded, CorruptFile, InvalidInput

_FIELDS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_OFF = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)


class SamplingResolver:
    """Fills in what a client left open, and checks the rest against the model.

    Args:
        defaults: `Manifest.defaults`. Names that do not concern sampling are none of ours.
        spec: The version's; names its EOS tokens.
        max_len: Tokens of prompt and answer that a slot takes.

    Raises:
        CorruptFile: A default is of the wrong type or outside its range.
    """

    def __init__(self, defaults: Mapping[str, float | int | str], spec: DecoderSpec, *, max_len: int) -> None:
        given = {name: defaults[name] for name in _FIELDS if name in defaults}
        if given.get("top_k") == -1:
            given["top_k"] = 0
        try:
            chosen = Sampling.model_validate(given)
            self._max_tokens = Sampling.model_validate({"max_tokens": defaults.get("max_new_tokens")}).max_tokens
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise CorruptFile(
                f"the version's default {first['loc'][0]} is {first['input']!r}: {first['msg']}; correct"
                " generation_config.json and import the model again"
            ) from error
        self._values = {
            name: getattr(_OFF, name) if (value := getattr(chosen, name)) is None else value for name in _FIELDS
        }
        self._eos = tuple(token for token in spec.eos_token_ids if token < spec.vocab_size)
        self._vocab_size = spec.vocab_size
        self._max_len = max_len

    def resolve(
        self, sampling: Sampling, prompt_tokens: int, bad_words: tuple[tuple[int, ...], ...] = ()
    ) -> SamplingParams:
        """The parameters of a request whose prompt has so many tokens, and whose bad words have these ids.

        Raises `ContextLengthExceeded` naming all numbers, or `InvalidInput` naming the field.
        """
        self._check_ids("logit_bias", [token for token, _ in sampling.logit_bias])
        self._check_ids("stop_token_ids", sampling.stop_token_ids)
        self._check_ids("allowed_token_ids", sampling.allowed_token_ids or ())
        chosen = {
            name: value if (given := getattr(sampling, name)) is None else given
            for name, value in self._values.items()
        }
        return SamplingParams(
            max_tokens=self._fitting(prompt_tokens, sampling.max_tokens),
            seed=sampling.seed,
            eos_token_ids=self._eos,
            ignore_eos=sampling.ignore_eos,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=sampling.logit_bias,
            stop_token_ids=sampling.stop_token_ids,
            bad_words=bad_words,
            allowed_token_ids=sampling.allowed_token_ids,
            min_tokens=sampling.min_tokens,
            logprobs=sampling.logprobs,
            prompt_logprobs=sampling.prompt_logprobs,
            **chosen,
        )

    def _fitting(self, prompt_tokens: int, max_tokens: int | None) -> int:
        if max_tokens is not None:
            return fitting_tokens(prompt_tokens, max_tokens, self._max_len)
        room = fitting_tokens(prompt_tokens, None, self._max_len)
        return room if self._max_tokens is None else min(room, self._max_tokens)

    def _check_ids(self, param: str, ids: Iterable[int]) -> None:
        for token in ids:
            if not 0 <= token < self._vocab_size:
                raise InvalidInput(
                    f"{param} names token {token}; this model has the tokens 0 to {self._vocab_size - 1}", param=param
                )


def fitting_tokens(prompt_tokens: int, max_tokens: int | None, max_len: int) -> int:
    """How many tokens an answer may have: `max_tokens`, or all that fit after the prompt if it is None.

    Raises `ContextLengthExceeded` naming all numbers.
    """
    room = max_len - prompt_tokens
    if max_tokens is None:
        if room < 1:
            raise ContextLengthExceeded(
                f"the prompt has {prompt_tokens} tokens, and this deployment takes {max_len} of prompt and answer"
                " together; shorten the prompt, or deploy with a larger max_len",
                param="messages",
            )
        return room
    if max_tokens > room:
        raise ContextLengthExceeded(
            f"the prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}: together"
            f" {prompt_tokens + max_tokens}, and this deployment takes {max_len}; shorten the prompt, lower"
            " max_tokens, or deploy with a larger max_len",
            param="max_tokens",
        )
    return max_tokens
