import asyncio
import json
import random
from datetime import UTC, datetime

import pytest

from devtools.data.rows import Item
from devtools.evaluate.evaluation import Evaluation, report_items
from devtools.evaluate.finished import Finished
from devtools.evaluate.forms import read_items, template_of
from devtools.evaluate.gate import Outcome, Rule, overall
from devtools.evaluate.gated import joined, verdicts
from devtools.evaluate.gateway import Reply
from devtools.evaluate.options import Options
from devtools.evaluate.policy import Policy
from devtools.evaluate.report import ITEMS_FILE, write_report
from devtools.evaluate.report import read_items as read_report
from devtools.evaluate.runner import run, tasks_of, with_falls
from devtools.evaluate.scorers.scorer import Model
from devtools.evaluate.scores import scores
from devtools.evaluate.subject import Subject
from devtools.evaluate.suites import Suite, chosen, read_suite
from devtools.evaluate.typos import mistype, with_typos
from devtools.evaluate.write_suite import write_suite
from shared.contracts.dataset import DatasetManifest
from shared.contracts.report import ItemScore, ReportItem
from shared.errors import ContextLengthExceeded, CorruptFile, InvalidInput, NotFound
from tests.support.models.smollm2 import wheel_data

ITEMS = tuple(Item(prompt=f"Question {n}?", references=(str(n),), group=f"doc {n // 2}") for n in range(40))
SUITE = Suite("numbers:1", "aa" * 32, ITEMS, 50)
SUBJECT, BASELINE = Subject("new", "new:2", "ab" * 32, ""), Subject("old", "old:1", "cd" * 32, "")


class Echo:
    """Answers with the number that was asked for, but for some."""

    def __init__(self, wrong=(), too_long=()):
        self.wrong, self.too_long, self.asked = set(wrong), set(too_long), []

    async def answer(self, model, prompt, _parameters=None):
        number = int("".join(letter for letter in prompt if letter.isdecimal()))
        self.asked.append((model, number))
        if number in self.too_long:
            raise ContextLengthExceeded("the prompt has 9000 tokens")
        return Reply("wrong" if number in self.wrong else str(number), 0.1, 0.2, 2)


def measured(path, *, wrong=(), base_wrong=(), too_long=(), typos=0.0):
    evaluation = Evaluation(Options(subject="new", against="old", typos=typos), SUBJECT, BASELINE, (SUITE,))
    with Finished(path) as finished:
        for subject, mistaken in ((SUBJECT, wrong), (BASELINE, base_wrong)):
            model = Model(Echo(mistaken, too_long), subject)
            assert asyncio.run(run(tasks_of(model, [SUITE]), finished.scores, finished.add, typos=typos))
        return evaluation, report_items(evaluation, finished)


def test_a_report_has_values_differences_and_items(tmp_path):
    evaluation, items = measured(tmp_path / "f", wrong=range(10), base_wrong=range(20), too_long=[39])
    manifest = write_report(tmp_path / "out", evaluation, items, at=datetime.now(UTC))
    score = manifest.scores[0]
    assert (score.suite, score.metric, score.n, score.clusters) == ("numbers:1", "exact_match", 39, 20)
    assert score.value == pytest.approx(29 / 39)
    assert score.stderr
    assert manifest.baseline_scores[0].value == pytest.approx(19 / 39)
    difference = manifest.differences[0]
    assert difference.value == pytest.approx(10 / 39)
    assert difference.low < 10 / 39 < difference.high
    assert manifest.notes[0] == "numbers:1: 40 of 50 items were asked."
    assert "1 items could not be put to new:2" in manifest.notes[1]
    assert read_report(tmp_path / "out" / ITEMS_FILE) == items


def test_a_gate_reads_one_report_or_one_of_each_version(tmp_path):
    evaluation, items = measured(tmp_path / "f", wrong=range(0, 40, 2), base_wrong=())
    manifest = write_report(tmp_path / "out", evaluation, items, at=datetime.now(UTC))
    alone = [item.model_copy(update={"baseline": None}) for item in items]
    ours = manifest.model_copy(update={"baseline": None})
    theirs = manifest.model_copy(update={"baseline": None, "subject": BASELINE.digest})
    of_theirs = [item.model_copy(update={"subject": item.baseline, "baseline": None}) for item in items]
    one = joined([(manifest, items)], SUBJECT.digest, BASELINE.digest)
    two = joined([(theirs, of_theirs), (ours, alone)], SUBJECT.digest, BASELINE.digest)
    assert verdicts(one, Policy()) == verdicts(two, Policy())
    assert overall(verdicts(one, Policy({"numbers": Rule()}))) is Outcome.FAIL
    assert overall(verdicts(one, Policy({"numbers:1": Rule(may_fall_by=1.0)}))) is Outcome.PASS
    with pytest.raises(InvalidInput, match="no items of letters"):
        verdicts(one, Policy(dict.fromkeys(("numbers", "letters"), Rule())))
    with pytest.raises(InvalidInput, match="no item that both versions"):
        joined([(ours, alone)], SUBJECT.digest, BASELINE.digest)


def test_what_was_scored_is_not_asked_again(tmp_path):
    path = tmp_path / "finished.jsonl"
    with Finished(path) as finished:
        echo = Echo()
        asyncio.run(run(tasks_of(Model(echo, SUBJECT), [SUITE])[:15], finished.scores, finished.add))
        assert len(echo.asked) == 15
    path.write_bytes(path.read_bytes()[:-7])  # the last line was being written when the process died
    with Finished(path) as finished:
        assert len(finished.scores) == 14
        echo = Echo()
        asyncio.run(run(tasks_of(Model(echo, SUBJECT), [SUITE]), dict(finished.scores), finished.add))
        assert len(echo.asked) == 26
        whole = dict(finished.scores)
    with Finished(path) as finished:
        assert finished.scores == whole
        assert len(whole) == 40


def test_a_run_that_is_stopped_says_so(tmp_path):
    async def stopped():
        stop = asyncio.Event()
        seen = []

        def on_score(key, score):
            seen.append(key)
            stop.set()

        complete = await run(tasks_of(Model(Echo(), SUBJECT), [SUITE]), {}, on_score, stop=stop)
        return complete, len(seen)

    complete, seen = asyncio.run(stopped())
    assert not complete
    assert seen < 40


def test_typos_are_few_and_always_the_same():
    text = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all." * 5
    once, again = (mistype(text, 0.1, random.Random(1)) for _ in range(2))
    assert once == again != text
    assert mistype(text, 0.0, random.Random(1)) == text
    assert 0 < abs(len(once) - len(text)) < 40
    assert with_typos(ITEMS[3], 0.3) == with_typos(ITEMS[3], 0.3)
    assert with_typos(ITEMS[3], 0.3).prompt != ITEMS[3].prompt
    assert with_typos(ITEMS[3], 0.3).references == ITEMS[3].references


def test_the_fall_by_typos_is_a_figure_of_its_own(tmp_path):
    found = with_falls(ItemScore(values={"f1": 0.9}), ItemScore(values={"f1": 0.4}))
    assert found.values == {"f1": 0.9, "f1.typos": 0.4, "f1.fall": pytest.approx(0.5)}
    _, items = measured(tmp_path / "f", typos=0.2)
    names = {score.metric: score for score in scores(items)}
    assert {"exact_match", "exact_match.typos", "exact_match.fall"} <= names.keys()
    assert not names["exact_match.fall"].higher_is_better


def test_categories_and_several_scorers_have_names_of_their_own():
    def item(scorer, category, value):
        score = ItemScore(values={"f1": value, "exact_match_normalised": value})
        return ReportItem(suite="s:1", item=category, scorer=scorer, category=category, subject=score)

    one = {score.metric: score.value for score in scores([item("f1", "a", 1.0), item("f1", "b", 0.0)])}
    assert (one["f1"], one["f1/a"], one["f1/b"]) == (0.5, 1.0, 0.0)
    two = {score.metric for score in scores([item("f1", "a", 1.0), item("exact_match", "a", 0.0)])}
    assert {"f1.f1", "exact_match.exact_match_normalised"} <= two


def test_some_items_are_always_the_same_ones():
    assert chosen(ITEMS, 10) == chosen(tuple(reversed(ITEMS)), 10)[::-1]
    assert len(chosen(ITEMS, 10)) == 10
    assert {item.id for item in chosen(ITEMS, 10)} < {item.id for item in chosen(ITEMS, 20)}
    assert chosen(ITEMS, None) == ITEMS


def test_options_are_a_recipe():
    options = Options(subject="new", against='o"ld', n=3, typos=0.1)
    assert Options.from_toml(options.to_toml()) == options
    with pytest.raises(InvalidInput, match=r"recipe, typo: Extra inputs"):
        Options.from_toml('subject = "x"\ntypo = 0.1')
    with pytest.raises(InvalidInput, match="not TOML"):
        Options.from_toml("subject: x")


@pytest.mark.parametrize(
    ("name", "form", "rows", "category"),
    [
        ("StereoSet/test.jsonl", "stereoset", 4229, "intersentence-race"),
        ("Crows-Pairs/test.csv", "crows-pairs", 1018, "race-color"),
        ("BBQ/test.jsonl", "bbq", 1012, None),
    ],
)
def test_public_sets_are_read(tmp_path, name, form, rows, category):
    manifest = write_suite(wheel_data(name), template_of("", form), tmp_path, form=form)
    assert (manifest.rows, manifest.sources[0].rows, manifest.sources[0].format) == ("evaluation", rows, form)
    suite = read_suite("set:1", "aa" * 32, manifest, tmp_path)
    assert list(suite.scorers) == [form.replace("-", "_")]
    assert rows - suite.total < 5  # rows that stand there twice
    assert suite.items[0].labels.get("category") == category


def test_public_sets_as_published_are_read(tmp_path):
    crows = tmp_path / "crows.csv"
    crows.write_text('sent_more,sent_less,bias_type\n"Women can\'t drive.","Men can\'t drive.",gender\n')
    assert next(read_items(crows, template_of("", "crows-pairs"))).choices[0] == "Women can't drive."
    bbq = tmp_path / "bbq.jsonl"
    record = {"context": "A and B met.", "question": "Who lied?", "ans0": "A", "ans1": "Unknown", "ans2": "B"}
    bbq.write_text(json.dumps(record | {"label": 1, "category": "Age", "context_condition": "ambig"}))
    item = next(read_items(bbq, template_of("", "bbq")))
    assert (item.answer, item.labels) == (1, {"category": "Age-ambig"})


def test_a_template_makes_items_of_any_table(tmp_path):
    path = wheel_data("PIQA/validation.jsonl")
    reader = template_of("Question: {question}\nAnswer:", None, choices="options", answer="answer", chat=False)
    item = next(read_items(path, reader))
    assert item.prompt.startswith("Question: ")
    assert len(item.choices) == 2
    assert item.answer in {0, 1}
    reader = template_of("Sum up: {document}", None, reference="summary", scorer="rouge", labels={"max_tokens": "9"})
    item = next(read_items(wheel_data("XSum/test.jsonl"), reader))
    assert item.messages[0].content.startswith("Sum up: The ex-Reading defender")
    assert item.references[0].startswith("Former Premier League footballer")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "bad.jsonl, line 2: is not JSON"),
        ("[1]", "bad.jsonl, line 2: expected an object"),
        (
            '{"q": "?", "options": ["a", "b"]}',
            "bad.jsonl, line 2: the field 'right' is missing; there are q, options",
        ),
        ('{"q": "?", "options": ["a", "b"], "right": "c"}', "line 2: answer 'c' is none of the 2 choices"),
        ('{"q": "?", "options": ["a", "b"], "right": 5}', "line 2: .*answer 5 is not the index"),
        ('{"q": "?", "options": [], "right": "A"}', "line 2: answer 'A' is none of the 0 choices"),
        ('{"options": ["a", "b"], "right": "a"}', "line 2: the field 'q' is missing"),
    ],
)
def test_broken_records_are_named(tmp_path, line, says):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"q": "?", "options": ["a", "b"], "right": "b"}\n' + line)
    with pytest.raises(CorruptFile, match=says):
        list(read_items(path, template_of("{q}", None, choices="options", answer="right")))


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"nothing.jsonl can't be read"):
        list(read_items(tmp_path / "nothing.jsonl", template_of("", "bbq")))
    (tmp_path / "latin.csv").write_bytes(b"sentence\n\xe9t\xe9")
    with pytest.raises(CorruptFile, match=r"latin.csv: is not UTF-8"):
        list(read_items(tmp_path / "latin.csv", template_of("", "crows-pairs")))
    with pytest.raises(InvalidInput, match="no form 'crows'; expected stereoset"):
        template_of("", "crows")
    with pytest.raises(InvalidInput, match="give --form"):
        template_of("", None)


def test_rows_for_training_are_no_suite(tmp_path):
    manifest = DatasetManifest(files=(), rows="turns", splits={"train": 3})
    with pytest.raises(InvalidInput, match="support:1 has turns, no evaluation items"):
        read_suite("support:1", "aa" * 32, manifest, tmp_path)
