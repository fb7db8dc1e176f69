from services.gateway.routing.refusals import MOST, REMEMBER_S, Refusals
from shared.errors import Overloaded

FULL = Overloaded("the queue is full", retry_after=3.0)


def refused(tokens: int = 100) -> Refusals:
    refusals = Refusals()
    refusals.remember("r1", "ann", FULL, tokens=tokens, now=10.0)
    return refusals


def test_the_same_request_would_be_refused_again_for_a_moment():
    refusals = refused()
    assert refusals.standing("r1", "ann", tokens=100, now=10.0) is FULL
    assert refusals.standing("r1", "ann", tokens=500, now=10.0 + 0.9 * REMEMBER_S) is FULL
    assert refusals.standing("r1", "ann", tokens=100, now=10.0 + REMEMBER_S) is None


def test_a_refusal_stands_no_longer_than_the_replica_says():
    refusals = Refusals()
    refusals.remember("r1", "ann", Overloaded("full", retry_after=0.01), tokens=1, now=10.0)
    assert refusals.standing("r1", "ann", tokens=1, now=10.005)
    assert refusals.standing("r1", "ann", tokens=1, now=10.01) is None


def test_others_are_asked():
    refusals = refused()
    assert refusals.standing("r2", "ann", tokens=100, now=10.0) is None, "another replica may have room"
    assert refusals.standing("r1", "bob", tokens=100, now=10.0) is None, "another tenant has a share of its own"
    assert refusals.standing("r1", "ann", tokens=99, now=10.0) is None, "a shorter prompt may fit"


def test_the_newest_refusal_counts():
    refusals = refused()
    refusals.remember("r1", "ann", FULL, tokens=7, now=11.0)
    assert refusals.standing("r1", "ann", tokens=7, now=11.1) is FULL


def test_only_so_many_are_kept():
    refusals = refused()
    for number in range(MOST):
        refusals.remember("r1", f"tenant {number}", FULL, tokens=1, now=10.0)
    assert refusals.standing("r1", "ann", tokens=100, now=10.0) is None
    assert refusals.standing("r1", "tenant 0", tokens=100, now=10.0) is FULL
