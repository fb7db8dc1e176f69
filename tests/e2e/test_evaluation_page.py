"""Every command of docs/evaluation.md, typed in a folder with the files that it names, on a running system."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import sacrebleu

from devtools.evaluate.rouge import rouge
from devtools.evaluate.scorers.catalogue import SCORERS
from tests.support.harness.compose import ROOT
from tests.support.harness.embedded import BRIEF, Embedded, until
from tests.support.models.smollm2 import wheel_data, xsum_pairs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
FILE = re.compile(r"<!-- (?P<name>\S+) -->\n```\n(?P<text>.*?)```", re.DOTALL)
BLOCK = re.compile(r"^```\n(?P<text>llmos .*?)^```", re.DOTALL | re.MULTILINE)
DATASETS = ("team", "summaries", "piqa", "news", "stereoset", "crows", "bbq", "translations", "judged")


def commands() -> list[tuple[str, int]]:
    """The commands with the exit codes that the page names, in order."""
    lines = [
        line for block in BLOCK.finditer(PAGE) for line in block["text"].splitlines() if line.startswith("llmos ")
    ]
    found = []
    for line in lines:
        command, _, code = line.partition("# exit code ")
        found.append((command.strip(), int(code or 0)))
    return found


def write_files(folder: Path) -> None:
    """Those that the page shows, and beginnings of public sets."""
    for found in FILE.finditer(PAGE):
        (folder / found["name"]).write_text(found["text"], encoding="utf-8")
    sets = {
        "piqa.jsonl": ("PIQA/validation.jsonl", 60),
        "stereoset.jsonl": ("StereoSet/test.jsonl", 40),
        "crows.csv": ("Crows-Pairs/test.csv", 40),
        "bbq.jsonl": ("BBQ/test.jsonl", 40),
    }
    for name, (source, lines) in sets.items():
        text = wheel_data(source).read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        (folder / name).write_text("".join(text), encoding="utf-8")
    articles = [{"document": document[:1_200], "summary": summary} for document, summary in xsum_pairs(4)]
    lines = "".join(json.dumps(article) + "\n" for article in articles)
    (folder / "xsum.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="module")
def system(demo: Embedded) -> Iterator[Embedded]:
    """The demo with a second version of the same weights as `helper`; all that was made is removed at the end."""
    version = demo.json("model", "show", "smollm2")
    manifest = version["manifest"]
    manifest["lineage"]["source"] = "another run with the same result"
    with demo.http() as client:
        made = client.post("/llmos/v1/models/helper/versions", json={"manifest": manifest})
        assert made.status_code == 200, made.text
        try:
            done = demo.cli("deploy", "helper", "--max-len", "2048", "--slots", "4")
            assert done.returncode == 0, done.stderr
            yield demo
        finally:
            demo.cli("undeploy", "helper")
            for report in ("smollm2", "helper", "bias", "texts", "judged"):
                client.delete(f"/llmos/v1/reports/{report}")
            for dataset in DATASETS:
                client.delete(f"/llmos/v1/datasets/{dataset}")
            until(lambda: demo.cli("model", "delete", "helper", "--yes").returncode == 0, 60, "deleted")


def run(system: Embedded, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command)
    assert program == "llmos"
    home = ["--home", str(system.home.root)]
    return subprocess.run(
        [*system.command, *arguments, *home],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=system.environment,
    )


def test_the_page_is_true(system: Embedded, tmp_path: Path) -> None:
    write_files(tmp_path)
    outputs = {}
    for command, code in commands():
        done = run(system, tmp_path, command)
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout
    assert len(outputs) > 15
    shown = outputs["llmos report show helper"]
    for figure in ("rougeL", "rouge1", "rouge2", "bleu", "chrf", "perplexity ↓", "bits_per_byte ↓", "±"):
        assert figure in shown, shown
    # The same weights give the same answers, through another deployment.
    perplexities = re.search(r"perplexity ↓ +(\S+) ± \S+ +\d+ +(\S+) ± \S+ +\+?-?0\.000", shown)
    assert perplexities is not None, shown
    assert perplexities[1] == perplexities[2]
    assert 5 < float(perplexities[1]) < 60
    bias = outputs["llmos report show bias --categories"]
    assert "Blodgett et al. 2021" in bias
    assert "stereotype_share/intersentence-" in bias
    judged = outputs["llmos evaluate helper --suite judged --judge smollm2 --here --name judged"]
    for figure in ("judge_win_rate", "judge_consistent", "judge_position_bias", "judge_agreement", "judge_kappa"):
        assert figure in judged, judged
    assert "note: The judge is smollm2:1, asked in both orders." in judged
    assert "Unvalidated judge: 2 answers" in judged
    check_overlap(system)
    gates = [text for command, text in outputs.items() if command.startswith("llmos gate")]
    assert [text.splitlines()[-1] for text in gates] == ["pass", "undecided", "pass", "fail", "pass"]
    assert "items would decide" in gates[1]
    typos = orjson.loads(next(text for command, text in outputs.items() if "--typos" in command))
    assert {"contains", "contains.typos", "contains.fall"} <= {one["metric"] for one in typos["manifest"]["scores"]}


def check_overlap(system: Embedded) -> None:
    """BLEU, chrF and ROUGE in the report are those of the answers that it keeps."""
    manifest = system.json("report", "show", "texts")["manifest"]
    with system.http() as client:
        lines = client.get(f"/llmos/v1/blobs/{manifest['files'][0]['digest']}").text.splitlines()
    answers: dict[str, list[str]] = {"translations:1": [], "summaries:1": []}
    for item in map(orjson.loads, lines):
        answers[item["suite"]].append(item["subject"]["answer"])
    found = {(score["suite"], score["metric"]): score["value"] for score in manifest["scores"]}
    french = ["Bonjour.", "Merci beaucoup.", "Le chat est sur la table.", "Je t'aime."]
    summaries = [summary for _, summary in xsum_pairs(4)]
    for suite, references in (("translations:1", french), ("summaries:1", summaries)):
        assert found[suite, "bleu"] == pytest.approx(sacrebleu.corpus_bleu(answers[suite], [references]).score)
        assert found[suite, "chrf"] == pytest.approx(sacrebleu.corpus_chrf(answers[suite], [references]).score)
        assert found[suite, "chrf"] > 1, answers[suite]
    rouges = [rouge(*pair) for pair in zip(answers["summaries:1"], summaries, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL"):
        assert found["summaries:1", name] == pytest.approx(sum(one[name] for one in rouges) / 4)


def test_scorers_of_the_page_are_those_that_there_are() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \|", PAGE[PAGE.index("## Scorers") : PAGE.index("### Translations")], re.MULTILINE
    )
    assert [name for name, _ in rows] == list(SCORERS)
    for name, figures in rows:
        named = re.findall(r"`(\w+)`( ↓)?", figures)
        metrics = [(metric.name, "" if metric.higher_is_better else " ↓") for metric in SCORERS[name].metrics]
        assert named == metrics or (name, named) == ("overlap", [])


def test_a_report_of_a_job_has_its_job_and_its_items(system: Embedded, tmp_path: Path) -> None:
    write_files(tmp_path)
    assert run(system, tmp_path, "llmos data import team.jsonl --name team --as evaluation").returncode == 0
    done = run(system, tmp_path, "llmos evaluate smollm2 --suite team --name job-report")
    try:
        assert done.returncode == 0, done.stderr
        manifest = system.json("report", "show", "job-report")["manifest"]
        assert manifest["job"].startswith("evaluate-")
        assert manifest["subject_name"] == "smollm2:1"
        with system.http() as client:
            lines = client.get(f"/llmos/v1/blobs/{manifest['files'][0]['digest']}").text.splitlines()
        items = [json.loads(line) for line in lines]
        assert len(items) == 4
        assert "Paris" in items[0]["subject"]["answer"]
        assert items[0]["subject"]["values"] == {"contains": 1.0}
    finally:
        with system.http() as client:
            client.delete("/llmos/v1/reports/job-report")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("llmos evaluate nobody --suite team", "no model 'nobody'.*deployed now: .*smollm2 (smollm2:1)"),
        ("llmos evaluate smollm2", "name at least one suite"),
        ("llmos evaluate smollm2 --suite nothing --here", "no dataset 'nothing'"),
        ("llmos evaluate smollm2 --suite team,team --here", "a suite is named twice"),
        ("llmos evaluate smollm2 --against smollm2:1 --suite team --here", "are one version, smollm2:1"),
        ("llmos evaluate smollm2 --suite team --here --judge nobody", "no model 'nobody'"),
        ("llmos evaluate smollm2 --suite team --here --name Ähm", "--name 'Ähm': expected"),
        ("llmos gate smollm2 --against smollm2", "are one version, smollm2:1"),
        ("llmos gate smollm2", "Give --against REF, or 'against' in --policy"),
        ("llmos gate smollm2 --policy nothing.toml", "the gate nothing.toml can't be read"),
        ("llmos gate smollm2 --policy gate.toml --suite team", "--policy says it already: leave out --suite"),
        ("llmos gate helper --against smollm2 --report nothing", "no report 'nothing'"),
    ],
)
def test_what_can_not_be_evaluated_is_one_clear_line(
    system: Embedded, tmp_path: Path, command: str, says: str
) -> None:
    write_files(tmp_path)
    run(system, tmp_path, "llmos data import team.jsonl --name team --as evaluation")
    done = run(system, tmp_path, command)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert re.search(says.replace("(", r"\(").replace(")", r"\)"), lines[-1]), done.stderr
    assert "Traceback" not in done.stderr


QUESTION = {
    "messages": [
        {"role": "system", "content": BRIEF},
        {"role": "user", "content": "What is the capital of France?"},
    ]
}
EVERY_SCORER = [
    {**QUESTION, "choices": ["Paris", "A cucumber"], "answer": 0, "scorer": "choice"},
    {"prompt": "The capital of France is", "choices": ["Paris", "seven"], "answer": 0, "scorer": "choice"},
    {**QUESTION, "references": ["Paris"], "scorer": "exact_match"},
    {**QUESTION, "references": ["The capital of France is Paris."], "scorer": "f1"},
    {**QUESTION, "references": ["paris"], "scorer": "contains"},
    {**QUESTION, "scorer": "json_schema", "labels": {"schema": '{"type": "object"}'}},
    {**QUESTION, "references": ["The capital of France is Paris."], "scorer": "overlap"},
    {"references": ["The capital of France is Paris."], "scorer": "perplexity"},
    {
        "prompt": "The nurse said that", "choices": ["he", "she"], "scorer": "counterfactual",
        "labels": {"counterpart": "The engineer said that"},
    },
    {**QUESTION, "scorer": "refusal", "labels": {"expected": "answer"}},
    {
        **QUESTION, "references": ["I do not know."], "scorer": "judge",
        "labels": {"human_answer": "Paris", "human_verdict": "win"},
    },
    {**QUESTION, "scorer": "latency", "labels": {"max_tokens": "8"}},
]  # fmt: skip


def test_every_scorer_works_on_a_model(system: Embedded, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"kind": "item", **item}) + "\n" for item in EVERY_SCORER)
    (tmp_path / "team.jsonl").write_text(lines, encoding="utf-8")
    done = run(system, tmp_path, "llmos data import team.jsonl --name team --json")
    assert done.returncode == 0, done.stderr
    suite = "team:" + str(orjson.loads(done.stdout)["version"])
    done = run(system, tmp_path, f"llmos evaluate smollm2 --suite {suite} --judge smollm2 --here --json --name bias")
    assert done.returncode == 0, done.stderr
    manifest = orjson.loads(done.stdout)["manifest"]
    values = {score["metric"]: score["value"] for score in manifest["scores"]}
    assert values["choice.accuracy"] == 1.0
    assert values["contains.contains"] == 1.0
    assert values["f1.f1"] > 0.5
    assert values["overlap.rougeL"] > 0.5
    assert 1 < values["perplexity.perplexity"] < 50
    assert 0 < values["counterfactual.counterfactual_gap"] < 1
    assert values["refusal.refusal_right"] == 1.0
    assert values["judge.judge_win_rate"] in {0.0, 0.5, 1.0}
    assert -1 <= values["judge.judge_position_bias"] <= 1
    assert "judge.judge_agreement" in values
    assert values.get("judge.judge_kappa", 0.0) == 0.0, "one verdict agrees not more than by chance"
    assert 0 < values["latency.first_token_s"] < 60
    assert values["latency.tokens_per_second"] > 0.1
    assert any(note.startswith("Unvalidated judge: 1 answers") for note in manifest["notes"])
