import pytest

from services.inference.engine.sampling.params import SamplingParams
from services.inference.replica.generate.sampling import SamplingResolver
from shared.contracts.manifest import DecoderSpec
from shared.contracts.sampling import Sampling
from shared.errors import CorruptFile

SPEC = DecoderSpec.EXAMPLE


def resolved(defaults: dict[str, float | int | str], **given: object) -> SamplingParams:
    return SamplingResolver(defaults, SPEC, max_len=100).resolve(Sampling(**given), prompt_tokens=30)


def test_what_nobody_gives_is_off_and_the_answer_may_fill_the_slot():
    assert resolved({}) == SamplingParams(70, eos_token_ids=SPEC.eos_token_ids)


def test_a_versions_default_applies_unless_the_client_gives_a_value():
    defaults = {"temperature": 0.25, "top_k": -1, "min_p": 0.125, "bos_token_id": 5, "max_new_tokens": 12}
    params = resolved(defaults, temperature=0.0, min_tokens=3)
    assert (params.temperature, params.top_k, params.min_p, params.min_tokens) == (0.0, 0, 0.125, 3)
    assert params.max_tokens == 12
    assert resolved(defaults, max_tokens=50).max_tokens == 50


def test_a_versions_default_out_of_range_is_named():
    with pytest.raises(CorruptFile, match=r"default top_p is 1\.5: .* correct generation_config\.json"):
        resolved({"top_p": 1.5})
