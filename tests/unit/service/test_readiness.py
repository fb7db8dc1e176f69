from shared.service.readiness import Readiness


def test_ready_is_who_has_no_problem():
    readiness = Readiness()
    assert readiness.ready
    readiness.set("store", "disk full")
    readiness.set("model", "loading")
    assert not readiness.ready
    assert readiness.reasons == ("model: loading", "store: disk full")
    readiness.set("store", None)
    readiness.set("model", None)
    assert readiness.ready


def test_a_probe_is_asked_each_time():
    problem: list[str | None] = ["not connected"]
    readiness = Readiness()
    readiness.probe("bus", lambda: problem[0])
    assert readiness.reasons == ("bus: not connected",)
    problem[0] = None
    assert readiness.ready


def test_listeners_hear_of_changes_only():
    heard = []
    readiness = Readiness()
    readiness.listen(lambda: heard.append(readiness.reasons))
    readiness.set("a", None)
    readiness.set("a", "x")
    readiness.set("a", "x")
    readiness.set("a", None)
    assert heard == [("a: x",), ()]
