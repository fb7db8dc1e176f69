from services.scheduler.policy.grace_period import GracePeriod


def observed(*moments: tuple[float, bool]) -> list[bool]:
    grace_period = GracePeriod(ttl=5.0, pause=2.5)
    return [grace_period.is_over(now=now, fresh=fresh) for now, fresh in moments]


def steps(begin: float, end: float, *, fresh: bool = True) -> list[tuple[float, bool]]:
    return [(begin + step, fresh) for step in range(int(end - begin) + 1)]


def test_no_node_is_gone_in_the_first_ttl():
    assert observed(*steps(100, 106)) == [False] * 5 + [True] * 2


def test_a_lost_connection_starts_the_wait_again():
    over = observed(*steps(100, 106), (107, False), *steps(108, 113))
    assert over[6:] == [True, False, False, False, False, False, False, True]


def test_a_pause_of_the_process_starts_the_wait_again():
    assert observed(*steps(100, 106), *steps(110, 115))[6:] == [True, False, False, False, False, False, True]


def test_no_node_is_gone_while_disconnected():
    assert not any(observed(*steps(100, 120, fresh=False)))
