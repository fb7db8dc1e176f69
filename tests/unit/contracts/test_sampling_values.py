"""The engine's form of sampling has the contract's fields, and the gateway's takes them all."""

import types
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from services.gateway.openai.requests import ChatRequest, CompletionRequest
from services.inference.engine.sampling.params import SamplingParams
from shared.contracts.sampling import Sampling, SamplingValues

TEXTS = {"stop", "include_stop_str_in_output", "bad_words"}
"""Resolved before the engine, which sees no text."""


def without_none(hint: Any) -> Any:
    if get_origin(hint) in (types.UnionType, Union):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    return hint


def test_every_field_of_the_contract_reaches_the_engine_by_name_and_type():
    contract, values = get_type_hints(Sampling), get_type_hints(SamplingValues)
    names = {field.name for field in fields(SamplingValues)}
    assert names | TEXTS == set(Sampling.model_fields)
    assert not names & TEXTS
    for name in names:
        assert without_none(contract[name]) == without_none(values[name]), name


def test_the_engines_parameters_add_only_what_the_replica_resolves():
    own = {field.name for field in fields(SamplingParams)} - {field.name for field in fields(SamplingValues)}
    assert own == {"eos_token_ids", "bad_words", "not_first", "no_repeat_ngram", "timestamp_begin"}


def test_the_values_that_are_off_are_in_range():
    SamplingValues(max_tokens=0).check_ranges()


def test_each_field_is_documented():
    assert all(field.description for field in Sampling.model_fields.values())


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
def test_the_gateways_requests_take_every_field(kind):
    assert set(Sampling.model_fields) <= set(kind.model_fields)
