"""A recipe: every key changes the run, an unknown one names the nearest, and a key without effect is refused."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.train.progress import Started
from devtools.train.recipe import Recipe, parse_recipe, read_recipe
from devtools.train.recipe.errors import keys
from devtools.train.recipe.schedule import rate_at
from devtools.train.recipe.tables import Schedule
from shared.errors import InvalidInput, NotFound
from tests.support.train.nano_runs import SMALL, base, merged, nano_run

pytestmark = pytest.mark.train

WORDS = [["r", "f"]]
EQUALISE = {"weight": 0.5, "words": WORDS}
VALIDATED = {
    "steps": 6,
    "validation": {"share": 0.3, "every": 1, "stop_after": 2},
    "optimizer": {"learning_rate": 1e-30},  # nothing is learnt: no validation is better than the first
}
SCRATCH = {"weights": "scratch", "method": "pretrain", "scratch": {"vocab": 300}}
CHANGES = [
    ({}, {"method": "pretrain"}),
    ({}, {"weights": "full"}),
    ({}, {"seed": 1}),
    ({}, {"steps": 5}),
    ({"steps": None}, {"epochs": 1.0}),
    ({}, {"batch": 7}),
    ({"method": "pretrain"}, {"max_len": 16}),
    ({"max_len": 40, "too_long": "skip"}, {"too_long": "refuse"}),
    ({}, {"optimizer": {"learning_rate": 2e-3}}),
    ({}, {"optimizer": {"weight_decay": 0.5}}),
    ({}, {"optimizer": {"beta1": 0.5}}),
    ({}, {"optimizer": {"beta2": 0.5}}),
    ({}, {"optimizer": {"clip": 0.001, "weight_decay": 0.1}}),
    ({}, {"schedule": {"kind": "linear"}}),
    ({}, {"schedule": {"warmup": 0.5}}),
    ({}, {"schedule": {"floor": 0.5}}),
    ({}, {"adapter": {"rank": 4}}),
    ({}, {"adapter": {"alpha": 4.0}}),
    ({}, {"adapter": {"targets": ["attn_q"]}}),
    ({}, {"adapter": {"dropout": 0.5}}),
    ({}, {"adapter": {"dora": True}}),
    ({}, {"adapter": {"rslora": True}}),
    (SCRATCH, {"scratch": {"size": "micro"}}),
    (SCRATCH, {"scratch": {"vocab": 320}}),
    ({"method": "dpo"}, {"dpo": {"beta": 0.5}}),
    ({"method": "dpo"}, {"dpo": {"nll": 0.5}}),
    ({"method": "distil"}, {"distil": {"temperature": 1.0}}),
    ({"method": "distil"}, {"distil": {"hard": 0.5}}),
    ({}, {"validation": {"share": 0.3}}),
    (VALIDATED, {"validation": {"every": 2}}),
    (VALIDATED, {"validation": {"stop_after": 1}}),
    ({}, {"robust": {"label_smoothing": 0.1}}),
    ({}, {"robust": {"dropout": 0.1}}),
    ({"robust": {"dropout": 0.1}}, {"robust": {"rdrop": 1.0}}),
    ({}, {"robust": {"neftune": 5.0}}),
    ({}, {"robust": {"fgm": 1.0}}),
    ({}, {"robust": {"freelb": 1.0}}),
    ({"robust": {"freelb": 1.0}}, {"robust": {"freelb_steps": 3}}),
    ({}, {"robust": {"equalise": EQUALISE}}),
    ({"robust": {"equalise": EQUALISE}}, {"robust": {"equalise": {"weight": 1.0}}}),
    ({"robust": {"equalise": EQUALISE}}, {"robust": {"equalise": {"words": [["d", "n"]]}}}),
    ({"robust": {"equalise": EQUALISE}}, {"robust": {"equalise": {"among": ["dog"]}}}),
    ({}, {"robust": {"reverse": EQUALISE}}),
    ({"robust": {"reverse": EQUALISE}}, {"robust": {"reverse": {"weight": 2.0}}}),
    ({"robust": {"reverse": EQUALISE}}, {"robust": {"reverse": {"words": [["d", "n"]]}}}),
    ({"robust": {"reverse": EQUALISE}}, {"robust": {"reverse": {"among": ["dog"]}}}),
    ({"robust": {"reverse": EQUALISE}}, {"robust": {"reverse": {"learning_rate": 1.0}}}),
    ({}, {"compute": {"micro_tokens": 64}}),
    ({"compute": {"packing": "no"}}, {"compute": {"packing": "yes"}}),
    ({}, {"compute": {"precision": "bfloat16"}}),
]
"""A recipe, and the change of one key."""


def leaves(recipe, prefix=""):
    """The dotted names of all keys that hold a value."""
    for key, value in recipe.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]


def has_bfloat16():
    return bool(torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"))


def course(folder, recipe):
    """All that a run does, without times: what every step reports, or the refusal."""
    more = {"base": None} if recipe.get("weights") == "scratch" else {}
    if recipe.get("method") == "distil":
        (folder / "teacher").mkdir(parents=True)
        more["teacher"] = base(folder / "teacher")
    try:
        run = nano_run(folder, recipe, **more)
    except InvalidInput as error:
        return error.message
    (started,) = [event for event in run.events if isinstance(event, Started)]
    return (
        [(s.loss, s.val_loss, s.learning_rate, s.gradient_norm, s.shape, s.micro_batches) for s in run.steps],
        (started.parameters, started.items, started.steps),
        {name: values.tobytes() for name, values in run.weights().items()},
    )


def without_none(recipe):
    return {key: value for key, value in recipe.items() if value is not None}


@pytest.mark.parametrize(("recipe", "change"), CHANGES, ids=lambda value: "+".join(leaves(value)) or "plain")
def test_every_key_changes_the_run(tmp_path, recipe, change):
    before, after = without_none(merged(SMALL, recipe)), without_none(merged(SMALL, recipe, change))
    if "precision" in change.get("compute", {}) and not has_bfloat16():
        with pytest.raises(InvalidInput, match="this processor has no bfloat16"):
            nano_run(tmp_path, after)
        return
    assert parse_recipe(before).digest != parse_recipe(after).digest
    rows = {"steps": None} if "steps" not in before else {}
    assert course(tmp_path / "before", {**before, **rows}) != course(tmp_path / "after", {**after, **rows})


def test_every_key_is_in_the_list_above():
    changed = {name for _, change in CHANGES for name in leaves(change)}
    tables = {name.rsplit(".", 1)[0] for name in keys(Recipe) if "." in name}
    assert changed >= set(keys(Recipe)) - tables


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ({"optimizer": {"lerning_rate": 1}}, "did you mean 'optimizer.learning_rate'?"),
        ({"learning_rate": 1e-3}, "did you mean 'optimizer.learning_rate'?"),
        ({"robust": {"equalise": {**EQUALISE, "amog": []}}}, "did you mean 'robust.equalise.among'?"),
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate is -1: input should be greater than 0"),
        ({"optimizer": {"learning_rate": math.nan}}, "optimizer.learning_rate is nan"),
        ({"method": "ppo"}, "method is 'ppo': input should be 'pretrain', 'sft', 'dpo' or 'distil'"),
        ({"epochs": 1, "steps": 1}, "give either 'epochs' or 'steps'"),
        ({"dpo": {"beta": 0.2}}, "[dpo] has no effect with method = 'sft'"),
        ({"weights": "full", "adapter": {"rank": 2}}, "[adapter] has no effect with weights = 'full'"),
        ({"robust": {"rdrop": 1.0}}, "set robust.dropout, too"),
        ({"robust": {"freelb_steps": 3}}, "no effect without robust.freelb"),
        ({"robust": {"fgm": 1.0, "freelb": 1.0}}, "either robust.fgm or robust.freelb"),
        ({"method": "dpo", "robust": {"label_smoothing": 0.1}}, "go with methods other than dpo"),
        ({"method": "dpo", "weights": "scratch"}, "needs a model to start from"),
        ({"method": "distil", "robust": {"label_smoothing": 0.1}}, "no effect with distil.hard = 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(recipe, message):
    with pytest.raises(InvalidInput) as caught:
        parse_recipe(recipe)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_keys_of_validation_need_held_out_rows(tmp_path):
    with pytest.raises(InvalidInput, match=r"validation.every has no effect without held-out rows"):
        nano_run(tmp_path, {"validation": {"every": 5}})


def test_a_recipe_is_a_toml_file_with_changes(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('method = "sft"\n[optimizer]\nlearning_rate = 1e-3\n')
    changed = read_recipe(path, ["optimizer.learning_rate=2e-3", "weights=full"])
    assert (changed.learning_rate, changed.weights) == (2e-3, "full")
    with pytest.raises(InvalidInput, match="expected KEY=VALUE"):
        read_recipe(path, ["weights"])
    with pytest.raises(InvalidInput, match="'method' is not a table"):
        read_recipe(path, ["method.kind=1"])
    path.write_text("method = \n")
    with pytest.raises(InvalidInput, match="is not TOML"):
        read_recipe(path)
    with pytest.raises(NotFound, match="can't be read"):
        read_recipe(tmp_path / "absent.toml")


def test_digests_name_what_a_recipe_does():
    assert parse_recipe({}).digest == parse_recipe({"method": "sft", "optimizer": {"beta1": 0.9}}).digest
    assert parse_recipe({}).digest != parse_recipe({"seed": 1}).digest


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_and_falls(kind):
    schedule = Schedule(kind=kind, warmup=0.1, floor=0.2)
    rates = [rate_at(step, 100, schedule) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    if kind == "constant":
        assert set(rates[10:]) == {1.0}
        return
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.2)
    assert rates[55] == pytest.approx(0.6)
