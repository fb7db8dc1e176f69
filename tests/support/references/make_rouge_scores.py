"""Writes rouge_scores.json: the scores of rouge-score 0.1.2 for the pairs of tests/unit/evaluate/test_references.py.

    pip install rouge-score==0.1.2 && python -m tests.support.references.make_rouge_scores

The library is of 2022 and wants nltk and absl, so tests compare with what it said once.
"""

import importlib.util
import json
from pathlib import Path


def main() -> None:
    """Write the file beside this one."""
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  # not in the environment of tests

    path = Path(__file__).parents[2] / "unit" / "evaluate" / "test_references.py"
    spec = importlib.util.spec_from_file_location("pairs_of_the_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds)
    scores = []
    for answer, reference in module.pairs():
        found = scorer.score(reference, answer)
        scores.append({kind: found[kind].fmeasure for kind in kinds})
    target = Path(__file__).with_name("rouge_scores.json")
    target.write_text(json.dumps(scores, indent=0).replace(",\n", ", ").replace("}, {", "},\n{"), encoding="utf-8")


if __name__ == "__main__":
    main()
