"""A request's sampling as the engine takes it.

What a client left open is the version's to say, then ours.

`Manifest.defaults` may name fields of `SamplingValues`, and `max_new_tokens`. A value that the client gives always
wins; a default outside its range is an error of the version, raised when the replica starts.
"""

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from services.inference.engine.sampling.params import SamplingParams
from shared.contracts.manifest import DecoderSpec
from shared.contracts.sampling import Sampling, version_defaults
from shared.errors import CorruptFile, InvalidInput
from shared.text.context_length import check_context_length


class SamplingResolver:
    """Fills in what a client left open, and checks the rest against the model.

    Args:
        defaults: `Manifest.defaults`. Other names are ignored.
        spec: The version's; names its EOS tokens.
        max_len: Tokens of prompt and answer that a slot takes.

    Raises:
        CorruptFile: A default is of the wrong type or outside its range.
    """

    def __init__(self, defaults: Mapping[str, float | int | str], spec: DecoderSpec, *, max_len: int) -> None:
        try:
            self._defaults = version_defaults(defaults)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise CorruptFile(
                f"the version's default {first['loc'][0]} is {first['input']!r}: {first['msg']}; correct"
                " generation_config.json and import the model again"
            ) from error
        self._max_tokens: int | None = self._defaults.pop("max_tokens", None)
        self._eos = tuple(token for token in spec.eos_token_ids if token < spec.vocab_size)
        self._vocab_size = spec.vocab_size
        self._max_len = max_len

    def resolve(
        self,
        sampling: Sampling,
        prompt_tokens: int,
        bad_words: tuple[tuple[int, ...], ...] = (),
        *,
        clip: bool = False,
    ) -> SamplingParams:
        """The parameters of a request, from the length of its prompt and the ids of its bad words.

        With `clip`, a `max_tokens` that does not fit after the prompt stands for all that fit.

        Raises `ContextLengthExceeded` naming all numbers, or `InvalidInput` naming the field.
        """
        self._check_ids("logit_bias", [token for token, _ in sampling.logit_bias or ()])
        self._check_ids("stop_token_ids", sampling.stop_token_ids or ())
        self._check_ids("allowed_token_ids", sampling.allowed_token_ids or ())
        values = {**self._defaults, **sampling.values()}
        values["max_tokens"] = self._fitting(prompt_tokens, sampling.max_tokens, clip=clip)
        return SamplingParams(**values, eos_token_ids=self._eos, bad_words=bad_words)

    def _fitting(self, prompt_tokens: int, max_tokens: int | None, *, clip: bool) -> int:
        if clip and max_tokens:
            return min(max_tokens, fitting_tokens(prompt_tokens, None, self._max_len))
        if max_tokens is not None:
            return fitting_tokens(prompt_tokens, max_tokens, self._max_len)
        left = fitting_tokens(prompt_tokens, None, self._max_len)
        return left if self._max_tokens is None else min(left, self._max_tokens)

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
    check_context_length(prompt_tokens, max_tokens, max_len, param="messages" if max_tokens is None else "max_tokens")
    return max_len - prompt_tokens if max_tokens is None else max_tokens
