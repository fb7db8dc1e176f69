"""OpenAI's fine-tuning example against a whole system: rows, a job, a model that answers."""

import json
import time

import openai
import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from tests.support.harness.embedded import until
from tests.support.models.small_model import write_small_gguf

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
def tiny(demo, tmp_path):
    """A base that trains in seconds."""
    demo.cli("model", "import", str(write_small_gguf(tmp_path / "tiny.gguf", scale=0.125)), "--name", "tiny")
    yield "tiny"
    demo.cli("model", "delete", "tiny")


@pytest.fixture
def chats(tmp_path):
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"Ticket {code}"}]}
        for text, code in CODES.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_example_of_openai_trains_a_model_that_answers_under_its_name(demo, client, tiny, chats):
    with chats.open("rb") as rows:
        file = client.files.create(file=rows, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=tiny,
        training_file=file.id,
        suffix="tuned-tickets",
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 40, "batch_size": 4, "learning_rate_multiplier": 10.0}},
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
        assert done.fine_tuned_model == "tuned-tickets"
        assert done.trained_tokens > 0
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
        metrics = [event.data for event in events if event.type == "metrics"]
        losses = [data["train_loss"] for data in metrics if "train_loss" in data]
        assert losses[0] < losses[-1], "it learns, and the newest event is the first"
        messages = [event.message for event in events]
        assert any(message.startswith("Step 40/40: training loss=") for message in messages), messages
        answer = client.chat.completions.create(
            model=done.fine_tuned_model,
            messages=[{"role": "user", "content": "I forgot my password"}],
            max_tokens=8,
        )
        assert answer.model == "tuned-tickets"
        assert answer.usage.completion_tokens > 0
        lineage = demo.json("model", "show", "tuned-tickets:1")["manifest"]["lineage"]
        assert lineage["job"] == job.id
        (dataset,) = lineage["datasets"]
        assert demo.json("data", "show", "tuned-tickets:1")["digest"] == dataset
    finally:
        if done.status == "succeeded":
            demo.cli("undeploy", "tuned-tickets")
            demo.cli("model", "delete", "tuned-tickets")
            client.files.delete(file.id)
