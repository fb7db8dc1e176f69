"""lm-evaluation-harness against the gateway gives the figures of `llmos evaluate`.

The harness wants an environment of its own (`pip install 'lm-eval[api]==0.4.13'`): `LLMOS_TEST_LM_EVAL` names its
program.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from devtools.evaluate.forms import read_items, template_of
from tests.support.harness.embedded import Embedded
from tests.support.models.smollm2 import wheel_data

LM_EVAL = os.environ.get("LLMOS_TEST_LM_EVAL") or shutil.which("lm_eval")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not LM_EVAL, reason="LLMOS_TEST_LM_EVAL names no program: lm-eval[api] is not installed"),
]

ROWS = 24
TASK = """\
task: local_piqa
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


def write_task(folder: Path) -> Path:
    """The task, and its rows as both sides read them."""
    reader = template_of("{question}", None, choices="options", answer="answer")
    items = list(read_items(wheel_data("PIQA/validation.jsonl"), reader))[:ROWS]
    rows = [{"question": item.messages[0].content, "choices": item.choices, "answer": item.answer} for item in items]
    data = folder / "piqa.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "local_piqa.yaml").write_text(TASK.replace("DATA", str(data)), encoding="utf-8")
    return data


def run_lm_eval(system: Embedded, folder: Path) -> tuple[dict[str, float], list[list[float]]]:
    """Its results, and the log-likelihoods of the choices of each row."""
    assert LM_EVAL is not None
    model = f"model=smollm2,base_url={system.url}/v1/completions,tokenizer_backend=remote,auth_token={system.key}"
    command = (LM_EVAL, "--model", "local-completions", "--model_args", model, "--tasks", "local_piqa")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    subprocess.run(
        [*command, "--include_path", str(folder), "--output_path", str(folder / "out"), "--log_samples"],
        env={**os.environ, **offline, "OPENAI_API_KEY": system.key},
        cwd=folder,
        check=True,
        timeout=500,
    )
    results = json.loads(next((folder / "out").rglob("results_*.json")).read_text())["results"]["local_piqa"]
    lines = next((folder / "out").rglob("samples_*.jsonl")).read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    return results, [[float(value) for value, _ in sample["filtered_resps"]] for sample in samples]


def test_lm_eval_gives_the_same_figures(demo: Embedded, tmp_path: Path) -> None:
    data = write_task(tmp_path)
    prompt = "Question: {question}\nAnswer:"
    fields = ("--choices", "choices", "--answer", "answer", "--text")
    try:
        done = demo.cli("suite", "import", str(data), "--name", "lm-piqa", "--template", prompt, *fields)
        assert done.returncode == 0, done.stderr
        manifest = demo.json("evaluate", "smollm2", "--suite", "lm-piqa", "--name", "lm-eval", "--here")["manifest"]
        with demo.http() as client:
            lines = client.get(f"/llmos/v1/blobs/{manifest['files'][0]['digest']}").text.splitlines()
        ours = {score["metric"]: score for score in manifest["scores"]}
        results, theirs = run_lm_eval(demo, tmp_path)
        assert ours["accuracy"]["value"] == pytest.approx(results["acc,none"], abs=1e-9)
        assert ours["accuracy_norm"]["value"] == pytest.approx(results["acc_norm,none"], abs=1e-9)
        assert ours["accuracy"]["stderr"] == pytest.approx(results["acc_stderr,none"], abs=1e-6)
        found = [json.loads(line)["subject"]["loglikelihoods"] for line in lines]
        assert len(found) == len(theirs) == ROWS
        for mine, other in zip(found, theirs, strict=True):
            assert mine == pytest.approx(other, abs=1e-4)
    finally:
        with demo.http() as client:
            client.delete("/llmos/v1/reports/lm-eval")
            client.delete("/llmos/v1/datasets/lm-piqa")
