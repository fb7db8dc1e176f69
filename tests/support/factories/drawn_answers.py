"""Random answers that a grammar allows."""

import random

import numpy as np

from services.inference.text.grammar.compiled import CompiledGrammar
from shared.text.tokenizer import Tokenizer


def drawn_tokens(
    grammar: CompiledGrammar, tokenizer: Tokenizer, rng: random.Random, *, eos: int, enough: int = 60
) -> list[int]:
    """The tokens of a whole answer; after `enough` of them it ends as soon as it may."""
    constraint, tokens = grammar.start(), list[int]()
    while not constraint.finished:
        choices = np.flatnonzero(np.unpackbits(constraint.mask().view(np.uint8), bitorder="little")).tolist()
        others = [each for each in choices if each != eos]
        if eos in choices and (len(tokens) > enough or not others):
            break
        if len(tokens) > 5 * enough:
            others = [each for each in others if tokenizer.token_bytes(each) in {b'"', b"}", b"]"}] or others
        token = rng.choice(others)
        tokens.append(token)
        assert len(tokens) < 3000
        constraint.accept(token)
    return tokens
