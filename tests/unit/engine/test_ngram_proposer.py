from services.inference.engine.ngram_proposer import NgramProposer


def proposal(tokens: list[int], count: int = 4) -> tuple[int, ...]:
    proposer = NgramProposer(tokens)
    return proposer.propose(count) if proposer.look() else ()


def read(proposer: NgramProposer, tokens: list[int], more: list[int]) -> None:
    """Let the sequence have `more` tokens, one at a time, with a look before each."""
    for token in more:
        proposer.look()
        tokens.append(token)


def test_the_proposal_is_what_followed_the_last_two_tokens_before():
    assert proposal([1, 2, 3, 4, 5, 6, 2, 3]) == (4, 5, 6, 2)


def test_of_several_places_the_last_one_counts():
    assert proposal([1, 2, 7, 7, 1, 2, 8, 8, 1, 2], 2) == (8, 8)


def test_a_text_that_goes_round_is_proposed_to_go_on_so():
    assert proposal([9, 5, 5, 5], 3) == (5, 5, 5)
    assert proposal([9, 1, 2, 3, 1, 2, 3, 1, 2, 3], 5) == (1, 2, 3, 1, 2)


def test_there_is_no_proposal_of_what_was_never_there():
    assert proposal([]) == ()
    assert proposal([1]) == ()
    assert proposal([1, 1]) == ()
    assert proposal([1, 2, 3, 4, 1, 3]) == ()


def test_a_proposal_may_have_no_tokens():
    assert proposal([1, 2, 3, 1, 2], 0) == ()
    assert proposal([1, 2, 3, 1, 2], -1) == ()


def test_a_longer_match_is_trusted_more():
    short = NgramProposer([9, 1, 2, 3, 8, 1, 2])
    long = NgramProposer([9, 1, 2, 3, 9, 1, 2])
    assert short.look()
    assert long.look()
    assert short.odds(0) < long.odds(0) == short.odds(1) == long.odds(5)


def test_what_comes_teaches_it_although_no_proposal_was_asked_for():
    phrase = [1, 2, 3, 4, 5, 6, 7, 8]
    tokens = list(phrase)
    proposer = NgramProposer(tokens)
    read(proposer, tokens, [*phrase, *phrase])
    assert proposer.look()
    before = proposer.odds(0)
    assert before > 0.9
    read(proposer, tokens, [9 if i % 3 == 2 else i % 3 for i in range(60)])  # 0 1 9 0 1 9: as guessed again
    assert proposer.look()
    assert proposer.odds(0) > before
    for other in range(100, 130):  # after 0 1 another token each time
        read(proposer, tokens, [0, 1, other])
    read(proposer, tokens, [0, 1])
    assert proposer.look()
    assert proposer.odds(0) < 0.1


def test_tokens_that_came_several_at_once_count_as_far_as_the_guess_was_right():
    tokens = [1, 2, 3, 4, 5, 6, 1, 2]
    proposer = NgramProposer(tokens)
    assert proposer.look()
    before = proposer.odds(1)
    tokens += [3, 4, 5, 6]
    proposer.look()
    assert proposer.odds(1) > before
    wrong = [1, 2, 3, 4, 5, 6, 1, 2]
    proposer = NgramProposer(wrong)
    assert proposer.look()
    wrong += [9, 4, 5, 6]
    proposer.look()
    assert proposer.odds(1) == before, "what comes after a wrong token is not measured"
