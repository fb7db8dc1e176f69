"""A recipe says all that is done; a mistake in it is named with the nearest word."""

import pytest

from devtools.data.block_source import Input
from devtools.data.recipe import Recipe
from devtools.data.steps import parameters_of
from devtools.data.version import import_files
from shared.errors import InvalidInput

WHOLE = Recipe(
    steps=[
        ("unicode", {}),
        ("length", {"min_characters": 3}),
        ("language", {"languages": ["en"]}),
        ("private", {"action": "mask", "regions": ["US"]}),
        ("near-duplicates", {"threshold": 0.8}),
        ("overlap", {}),
        ("swap", {"pairs": ["gender", "cat:dog"]}),
    ],
    mix=[(1, 0.5)],
    suites=[2],
    split={"validation": 0.1, "seed": 3},
    check={"max_characters": 1000},
    processes=2,
)


@pytest.fixture
def given(jsonl, tmp_path):
    """Three datasets."""
    inputs = []
    for number in range(3):
        folder = tmp_path / f"v{number}"
        manifest = import_files([jsonl({"text": f"a text with number {number}"})], folder).manifest
        inputs.append(Input(folder, manifest, f"{number}" * 64))
    return inputs


def test_a_recipe_is_the_same_after_toml(given):
    again = Recipe.parse(WHOLE.toml())
    assert again == WHOLE
    inputs, plan = again.plan(given)
    assert [(one.digest[0], one.share) for one in inputs] == [("0", 1.0), ("1", 0.5)]
    assert [step.name for step in plan.steps] == [name for name, _ in WHOLE.steps]
    assert parameters_of(plan.steps[5]) == {"suites": ("2" * 64,)}
    assert plan.stages == 2


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("processes = 0", "processes"),
        ("stepp = 1", "did you mean 'step'"),
        ('[[step]]\nname = "unicod"', "did you mean 'unicode'"),
        ('[[step]]\nname = "near-duplicates"\ntreshold = 0.5', "did you mean 'threshold'"),
        ('[[step]]\nname = "near-duplicates"\nthreshold = "high"', "threshold: expected a number, found 'high'"),
        ('[[step]]\nname = "near-duplicates"\nthreshold = 0.1', "threshold: expected 0.3 to 1"),
        ('[[step]]\nname = "language"', "languages must be given"),
        ('[[step]]\nname = "private"\naction = "hide"', "expected mask or drop"),
        ('[[step]]\nname = "private"\nkinds = ["mail"]', "expected some of"),
        ('[[step]]\nname = "length"\nmax_tokens = 5', "needs a tokenizer"),
        ("[split]\nvalidaton = 0.1", "did you mean 'validation'"),
        ("[check]\nmax_token = 1", "did you mean 'max_tokens'"),
        ("[[mix]]\ndataset = 7", "there is no dataset 7"),
        ("suites = [0]", "there is no dataset 0"),
        ("not toml", "not TOML"),
        ("step = 1", r"expected tables \[\[step\]\]"),
    ],
)
def test_a_mistake_is_named(given, toml, named):
    with pytest.raises(InvalidInput, match=named):
        Recipe.parse(toml).plan(given)
