"""A search: losers stop early, the best is kept, and a search that was stopped goes on as if it had not been."""

import json

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")
pytest.importorskip("optuna", reason="the extra `train` (optuna) is not installed")

from devtools.data.rows import write_rows
from devtools.train.options import CheckpointInterval, RunOptions
from devtools.train.progress import Stepped, TrialEnded, TrialStarted
from devtools.train.search.names import BEST_RECIPE
from devtools.train.search.search import Search, search
from devtools.train.search.space import parse_search
from shared.errors import Conflict, InvalidInput
from tests.support.train.nano_runs import SMALL, base, merged, turns

pytestmark = pytest.mark.train
RECIPE = merged(SMALL, {"steps": 9, "batch": 4, "validation": {"every": 1}})
OVER = {"lr": "1e-6..1e-2", "rank": "2,4,8"}


@pytest.fixture
def started(tmp_path):
    """Starts, or goes on with, a search in a folder; the events of this call, and what it answers."""
    write_rows(tmp_path / "rows.jsonl", turns(24))
    write_rows(tmp_path / "held-out.jsonl", turns(8, seed=1))
    gguf = base(tmp_path)

    def start(name="search", recipe=RECIPE, trials=6, over=OVER, stop=lambda _events: False, **options):
        table, space = parse_search({"trials": trials, "over": over}, recipe)
        given = {"validation": tmp_path / "held-out.jsonl", **options}
        where = RunOptions(
            data=(tmp_path / "rows.jsonl",), base=gguf, output=tmp_path / name, threads=1,
            interval=CheckpointInterval(steps=1), **given,
        )  # fmt: skip
        events = []
        done = search(Search(recipe, table, space), where, on_event=events.append, asked_to_stop=lambda: stop(events))
        return done, events

    return start


def trials_of(folder):
    return json.loads((folder / "trials.json").read_text())["trials"]


def test_losers_stop_early_and_the_best_is_left(started, tmp_path):
    done, events = started()
    trials = trials_of(tmp_path / "search")
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert len(trials) == len(ended) == 6
    states = {trial["number"]: trial["state"] for trial in trials}
    assert set(states.values()) == {"complete", "stopped"}
    for trial in trials:
        steps = len(trial["losses"])
        assert steps == 9 if trial["state"] == "complete" else steps in {1, 3}, "rungs are at 1, 3 and 9 steps"
    trained = sum(isinstance(event, Stepped) for event in events)
    assert trained == sum(len(trial["losses"]) for trial in trials) < 6 * 9
    lowest = min(min(trial["losses"].values()) for trial in trials if trial["state"] == "complete")
    assert done.val_loss == lowest
    assert done.values == trials[done.trial]["values"]
    assert done.values["optimizer.learning_rate"] > 1e-4, "a rate that teaches nothing won"
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == ["recipe.toml", "result", "trials.json"]
    assert (tmp_path / "search" / "result" / "adapter_model.safetensors").exists()
    assert f"rank = {done.values['adapter.rank']}" in (tmp_path / "search" / BEST_RECIPE).read_text()
    assert done.table.splitlines()[1].split()[:4] == [str(done.trial + 1), f"{lowest:.4f}", "9", "best"]


def test_a_search_that_was_stopped_everywhere_ends_like_one_that_was_not(started, tmp_path):
    whole, _ = started("whole")
    calls = 0
    while True:
        calls += 1
        assert calls < 60
        done, events = started("cut", stop=lambda events: sum(isinstance(event, Stepped) for event in events) >= 2)
        assert sum(isinstance(event, Stepped) for event in events) <= 2
        if done is not None:
            break
    assert calls > 5
    assert trials_of(tmp_path / "cut") == trials_of(tmp_path / "whole")
    assert (done.trial, done.val_loss, done.digest) == (whole.trial, whole.val_loss, whole.digest)
    again, events = started("cut")
    assert again.digest == whole.digest
    assert len(events) == 1, "a search that has ended does nothing but say so"


def test_values_that_were_tried_are_not_trained_again(started, tmp_path):
    _, events = started(trials=5, over={"rank": "2,4"})
    assert len([event for event in events if isinstance(event, TrialStarted)]) == 5
    trained = sum(isinstance(event, Stepped) for event in events)
    trials = trials_of(tmp_path / "search")
    first = {trial["values"]["adapter.rank"]: trial for trial in reversed(trials)}
    assert trained == sum(len(trial["losses"]) for trial in first.values())


def test_a_trial_that_diverges_is_one_that_loses(started, tmp_path):
    recipe = merged(RECIPE, {"optimizer": {"clip": 1e30}, "validation": {"every": 3}})
    done, _ = started(recipe=recipe, over={"lr": "1e-3,1e30"}, trials=6)
    states = {trial["values"]["optimizer.learning_rate"]: trial["state"] for trial in trials_of(tmp_path / "search")}
    assert states[1e30] == "diverged"
    assert done.values == {"optimizer.learning_rate": 1e-3}


def test_what_can_not_be_compared_is_refused(started):
    with pytest.raises(InvalidInput, match="held-out rows"):
        started(validation=None, recipe={key: value for key, value in RECIPE.items() if key != "validation"})
    started(trials=2)
    with pytest.raises(Conflict, match="another search"):
        started(trials=3)
    with pytest.raises(InvalidInput, match="no trial came to a finite loss"):
        started(
            "diverged",
            recipe=merged(RECIPE, {"optimizer": {"clip": 1e30}, "validation": {"every": 3}}),
            over={"lr": "1e29,1e30"},
            trials=2,
        )
