"""Usage while a stream runs."""

from services.gateway.openai.usage import RunningUsage
from shared.contracts.gateway import Frame
from shared.contracts.replica import Accepted


def test_each_choice_is_counted_alone() -> None:
    running = RunningUsage(lambda _: Accepted(prompt_tokens=7))
    frame = Frame(request_id="r", seq=0, token_ids=(1, 2))
    running.after(0, frame)
    usages = [running.of(0), running.after(1, frame), running.after(0, frame), running.of(2)]
    assert [usage["usage"]["completion_tokens"] for usage in usages] == [2, 2, 4, 0]
    assert usages[2] == {"usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}}
