"""A run that was stopped and goes on equals one that was not, to the bit."""

import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.train.checkpoint import Checkpoints, State
from devtools.train.progress import Checkpointed, Paused, Started, Validated, Warned
from shared.errors import Conflict, StorageFull
from tests.support.train.nano_runs import EVERY_STEP, nano_run, turns

pytestmark = pytest.mark.train
NOISY = {
    "steps": 8,
    "adapter": {"dropout": 0.2},
    "robust": {"dropout": 0.1, "neftune": 5.0, "rdrop": 0.5},
    "validation": {"share": 0.3, "every": 2},
}
"""Everything that draws random numbers, and the best checkpoint."""
DIVERGING = {
    "weights": "full",
    "steps": 14,
    "batch": 16,
    "optimizer": {"learning_rate": 1e-2},
    "schedule": {"kind": "constant"},
    "validation": {"share": 0.4, "every": 1},
}
"""On few rows: the validation loss soon rises."""
RECIPES = {
    "noisy": NOISY,
    "full": {"weights": "full", "steps": 6, "robust": {"freelb": 0.5}},
    "dpo": {"method": "dpo", "steps": 6},
    "adversary": {"steps": 6, "robust": {"reverse": {"weight": 0.5, "words": [["r", "f"]]}}},
    "scratch": {"steps": 6, "weights": "scratch", "method": "pretrain", "scratch": {"vocab": 300}},
}


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, name):
    recipe, base = RECIPES[name], {"base": None} if name == "scratch" else {}
    whole = nano_run(tmp_path / "whole", recipe, **base)
    for stop in (3, 2):
        stopped = nano_run(tmp_path / "stopped", recipe, stop_at=stop, **base)
        assert stopped.finished is None
        assert isinstance(stopped.events[-1], Paused)
    resumed = nano_run(tmp_path / "stopped", recipe, **base)
    (started,) = [event for event in resumed.events if isinstance(event, Started)]
    assert started.step >= 3
    assert resumed.losses == whole.losses[started.step :]
    assert resumed.finished.digest == whole.finished.digest
    assert resumed.finished.val_loss == whole.finished.val_loss


def test_a_run_that_is_done_says_so_again(tmp_path):
    first = nano_run(tmp_path)
    again = nano_run(tmp_path)
    assert again.finished == first.finished
    assert not again.steps


def test_a_step_that_was_left_half_way_is_made_again(tmp_path):
    """The process was asked to stop between two micro-batches."""
    recipe = {"compute": {"micro_tokens": 1, "packing": "no"}}
    whole = nano_run(tmp_path / "whole", recipe)
    asked = iter([False] * 21 + [True] * 1000)
    stopped = nano_run(tmp_path / "stopped", recipe, stop_at=None, ask=lambda: next(asked))
    assert stopped.events[-1] == Paused(2)
    assert nano_run(tmp_path / "stopped", recipe).finished.digest == whole.finished.digest


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    nano_run(tmp_path)
    with pytest.raises(Conflict, match="another recipe"):
        nano_run(tmp_path, {"seed": 1})
    with pytest.raises(Conflict, match="another data"):
        nano_run(tmp_path, rows=turns(seed=5))


def test_the_newest_two_and_the_best_checkpoints_stay(tmp_path):
    run = nano_run(tmp_path, DIVERGING, rows=turns(16), interval=EVERY_STEP)
    best = [event.step for event in run.events if isinstance(event, Validated) and event.best][-1]
    assert best < 13
    assert Checkpoints(run.folder / "checkpoints", {}).steps() == [best, 13, 14]
    assert run.finished.step == best
    assert [event.step for event in run.events if isinstance(event, Checkpointed)] == list(range(1, 15))


def test_the_result_has_the_best_weights(tmp_path):
    run = nano_run(tmp_path / "long", DIVERGING, rows=turns(16))
    best = run.finished.step
    state, tensors, _ = Checkpoints(run.folder / "checkpoints", {}).load(best)
    assert state.best_loss == run.finished.val_loss
    stored = run.weights()["model.layers.0.mlp.up_proj.weight"]
    torch.testing.assert_close(torch.from_numpy(stored), tensors["model.blk.0.ffn_up.weight/weight"], rtol=0, atol=0)


def test_a_run_ends_early_when_validation_stops_getting_better(tmp_path):
    recipe = {
        "steps": 40,
        "optimizer": {"learning_rate": 0.3},
        "validation": {"share": 0.3, "every": 1, "stop_after": 3},
    }
    run = nano_run(tmp_path, recipe)
    losses = [event.val_loss for event in run.events if isinstance(event, Validated)]
    assert len(losses) < 40
    assert min(losses) == losses[-4] == run.finished.val_loss


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path):
    whole = nano_run(tmp_path / "whole", {"steps": 6})
    nano_run(tmp_path / "torn", {"steps": 6}, stop_at=4, interval=EVERY_STEP)
    newest = tmp_path / "torn/out/checkpoints/step-00000004/tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    (tmp_path / "torn/out/checkpoints/.step-00000005.partial").mkdir()
    resumed = nano_run(tmp_path / "torn", {"steps": 6})
    assert [event.message for event in resumed.events if isinstance(event, Warned)] == [
        f"{newest.parent} is damaged and was removed"
    ]
    assert resumed.steps[0].step == 4
    assert resumed.finished.digest == whole.finished.digest
    assert not list((tmp_path / "torn/out/checkpoints").glob(".*"))


def test_another_kind_of_machine_is_warned_of(tmp_path):
    nano_run(tmp_path, stop_at=2)
    path = tmp_path / "out/checkpoints/step-00000002/state.json"
    described = json.loads(path.read_text())
    described["machine"]["torch"] = "1.0"
    path.write_text(json.dumps(described))
    (warning,) = [event for event in nano_run(tmp_path).events if isinstance(event, Warned)]
    assert warning.message.startswith("torch was '1.0' and is ")


@pytest.mark.parametrize("at", [0, 100_000])
def test_a_full_disk_keeps_the_checkpoints_before(tmp_path, at, file_size_limit):
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(State(step=1), {"a": torch.ones(4)})
    with file_size_limit(at), pytest.raises(StorageFull, match="what was written before it stays"):
        checkpoints.save(State(step=2), {"a": torch.ones(100_000)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    state, tensors, _ = checkpoints.newest()
    assert state.step == 1
    assert tensors["a"].tolist() == [1, 1, 1, 1]
    checkpoints.save(State(step=2), {"a": torch.ones(100_000)})
    assert checkpoints.steps() == [1, 2]
