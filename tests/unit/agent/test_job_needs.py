import json
import sys
from typing import get_args

import pytest

from services.inference.agent.job_needs import find_lacking
from shared.contracts.job import JobKind


def python(code):
    return (sys.executable, "-P", "-c", code)


async def test_the_job_command_says_what_the_node_lacks():
    answer = json.dumps({"train": "no torch"})
    assert await find_lacking(python(f"import sys; assert sys.argv[1:] == ['--lacking']; print({answer!r})")) == {
        "train": "no torch"
    }


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("no-such-python", "-m", "devtools.jobs.run"), "no-such-python"),
        (python("import nothing_of_this_name"), "No module named 'nothing_of_this_name'"),
        (python("import sys; sys.exit(3)"), "it ended with 3"),
        (python("print('hello')"), "it printed b'hello"),
        (python('print(\'{"dream": "no"}\')'), "expected a JSON object of kinds of jobs and reasons"),
    ],
)
async def test_a_job_command_that_does_not_work_is_the_reason_of_every_kind(command, says):
    found = await find_lacking(command)
    assert found.keys() == set(get_args(JobKind))
    for reason in found.values():
        assert says in reason
        assert reason.startswith("LLMOS_INFERENCE_JOB_COMMAND does not work: ")
        assert "\n" not in reason
