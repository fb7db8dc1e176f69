"""A real embedding model from its directory to an application, on the system that everything shares."""

import numpy as np
import openai
import pytest

from tests.support.harness.embedded import until
from tests.support.models.minilm import minilm_directory
from tests.support.models.minilm_texts import SENTENCES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_model_is_imported_deployed_and_embeds(demo):
    done = demo.cli("model", "import", str(minilm_directory()), "--name", "minilm")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("minilm:1 ")
    shown = demo.cli("model", "show", "minilm").stdout
    assert "384 dimensions, mean pooling, normalised" in shown
    assert "apache-2.0" in shown
    try:
        deployed = demo.cli("deploy", "minilm")
        assert deployed.returncode == 0, deployed.stderr
        with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=demo.key, max_retries=0, timeout=60) as client:
            until(lambda: _ready(client), 60, "a replica of minilm is ready")
            answer = client.embeddings.create(model="minilm", input=SENTENCES)
            vectors = np.array([entry.embedding for entry in answer.data])
            similar = vectors @ vectors.T
            assert similar[0, 1] > 0.8, "a question and its answer"
            assert similar[2, 3] > 0.6, "two sentences about the weather"
            assert similar[2, 4] < 0.3, "the weather and a drive"
            with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
                client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "Hello"}])
            with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
                client.embeddings.create(model="smollm2", input="Hello")
        embedded = demo.cli("embed", "minilm", SENTENCES[0], "--json")
        assert embedded.returncode == 0, embedded.stderr
    finally:
        demo.cli("undeploy", "minilm")
        demo.cli("model", "delete", "minilm", "--yes")
    assert [model["name"] for model in demo.json("model", "list")] == ["smollm2"]


def _ready(client: openai.OpenAI) -> bool:
    model = client.models.retrieve("minilm").model_dump()
    return bool(model["ready_replicas"])
