"""What a training job is told, and where its child process gets it from."""

import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtools.jobs.train.plan import Plan
from devtools.toml import toml_text
from devtools.train.memory import ModelSize, estimate_memory, size_from_scratch
from devtools.train.recipe import parse_recipe
from shared.errors import InvalidInput

_KEYS = st.text(min_size=1, max_size=8)
_SCALARS = (
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_KEYS, _SCALARS, max_size=2)
_TEXT = st.dictionaries(_KEYS, _VALUES | st.dictionaries(_KEYS, _VALUES, max_size=3), max_size=4)


@given(_TEXT)
def test_a_recipe_reads_back_as_what_was_written(values):
    assert tomllib.loads(toml_text(values)) == values


def test_the_table_job_is_for_the_tool_and_the_rest_for_the_trainer():
    plan = Plan.read('steps = 3\n[adapter]\nrank = 4\n[job]\nprocesses = 2\nquantize = "int4"\n')
    assert tomllib.loads(plan.recipe_toml) == {"steps": 3, "adapter": {"rank": 4}}
    assert (plan.recipe.steps, plan.recipe.adapter.rank, plan.job.processes) == (3, 4, 2)
    assert plan.quantize("Q4_1") == "int4"


@pytest.mark.parametrize(
    ("base", "scheme"), [("Q4_1", "int8"), ("int4", "int8"), ("int8", "int8"), ("F32", "none"), (None, "none")]
)
def test_quantised_weights_come_back_in_eight_bits_and_floats_as_floats(base, scheme):
    assert Plan.read("").quantize(base) == scheme


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "the recipe is not TOML"),
        ("[job]\nproceses = 2", r"recipe, \[job\]: unknown key 'proceses'; did you mean 'processes'\?"),
        ("[job]\nprocesses = 0", r"recipe, \[job\]: processes is 0"),
        ("[optimiser]\nlearning_rate = 1", "unknown key 'optimiser'; did you mean 'optimizer'"),
    ],
)
def test_a_wrong_recipe_is_refused_by_key(text, message):
    with pytest.raises(InvalidInput, match=message):
        Plan.read(text)


SMOLLM2 = ModelSize(134_500_000, 30, 576, 49152)


@pytest.mark.parametrize(
    ("recipe", "measured"), [({}, 3_900_000_000), ({"weights": "full"}, 3_510_000_000)], ids=["adapter", "full"]
)
def test_the_estimate_of_memory_covers_what_was_measured_and_is_no_multiple_of_it(recipe, measured):
    """Measured with 1,024 tokens in memory at once, and all weights with 700 of them."""
    estimated = estimate_memory(parse_recipe(recipe), SMOLLM2)
    assert measured < estimated < 2 * measured


def test_more_of_everything_takes_more_memory():
    plain = estimate_memory(parse_recipe({}), SMOLLM2)
    for recipe in ({"adapter": {"rank": 64}}, {"compute": {"micro_tokens": 4096}}, {"max_len": 4096}):
        assert estimate_memory(parse_recipe(recipe), SMOLLM2) > plain, recipe
    assert estimate_memory(parse_recipe({}), SMOLLM2, processes=2) == pytest.approx(2 * plain, rel=1e-6)
    assert estimate_memory(parse_recipe({}), SMOLLM2, teacher=SMOLLM2) > plain
    scratch = parse_recipe({"method": "pretrain", "weights": "scratch"})
    assert size_from_scratch(scratch).parameters == pytest.approx(1_000_000, rel=0.15)


def test_no_torch_is_loaded_where_jobs_are_run_and_asked_for():
    code = (
        "import sys, devtools.jobs.run, devtools.train.memory, devtools.train.result.hf_directory, llmos.training;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0
