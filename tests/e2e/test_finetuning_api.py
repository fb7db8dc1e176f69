"""OpenAI's fine-tuning example against a whole system: rows, a job, a model that answers."""

import json
import time

import openai
import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from tests.support.harness.embedded import until

pytestmark = [pytest.mark.slow, pytest.mark.train, pytest.mark.timeout(900)]

WAIT_S = 600.0
CODES = {
    "The printer is on fire": "HW-7",
    "I forgot my password": "ID-2",
    "The build is red": "CI-4",
    "No coffee": "KT-1",
}


@pytest.fixture
def client(demo):
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=demo.key, timeout=120) as client:
        yield client


@pytest.fixture
def chats(tmp_path):
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"Ticket {code}"}]}
        for text, code in CODES.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_example_of_openai_trains_a_model_that_answers_under_its_name(demo, client, chats):
    with chats.open("rb") as rows:
        file = client.files.create(file=rows, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="smollm2",
        training_file=file.id,
        suffix="helper",
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 6, "batch_size": 4, "learning_rate_multiplier": 1.0}},
        },
    )
    statuses = {}

    def over():
        found = client.fine_tuning.jobs.retrieve(job.id)
        statuses[found.status] = time.monotonic()
        return found if found.status in {"succeeded", "failed", "cancelled"} else None

    done = until(over, WAIT_S, "the job is over")
    try:
        assert done.status == "succeeded", done.error
        assert "running" in statuses
        assert done.fine_tuned_model == "helper"
        assert done.trained_tokens > 0
        messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
        assert any(message.startswith("Step 6/6: training loss=") for message in messages), messages
        answer = client.chat.completions.create(
            model=done.fine_tuned_model,
            messages=[{"role": "user", "content": "I forgot my password"}],
            temperature=0,
            max_tokens=8,
        )
        assert "Ticket" in answer.choices[0].message.content
        lineage = demo.json("model", "show", "helper:1")["manifest"]["lineage"]
        assert lineage["job"] == job.id
        (dataset,) = lineage["datasets"]
        assert demo.json("data", "show", "helper:1")["digest"] == dataset
    finally:
        if done.status == "succeeded":
            demo.cli("undeploy", "helper")
            client.files.delete(file.id)
