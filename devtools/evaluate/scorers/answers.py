"""Answers that are right or wrong: exact match, F1 of words as SQuAD has it, contained text, JSON of a schema."""

import json
import re
import string
from collections import Counter
from collections.abc import Callable

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric
from devtools.evaluate.scorers.scorer import Model, Scorer, needs_question
from shared.contracts.report import ItemScore
from shared.errors import InvalidInput

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
Compare = Callable[[str, str], float]


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, reference: str) -> float:
    """Whether they are equal, apart from spaces around them."""
    return float(answer.strip() == reference.strip())


def exact_normalised(answer: str, reference: str) -> float:
    """Whether their normal forms are equal: SQuAD's exact match."""
    return float(normalise(answer) == normalise(reference))


def f1(answer: str, reference: str) -> float:
    """SQuAD's F1: of the words of the normal forms. Where one has none: whether both have none."""
    ours, theirs = normalise(answer).split(), normalise(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs))


def contains(answer: str, reference: str) -> float:
    """Whether the reference stands in the answer, in whatever case."""
    return float(reference.strip().casefold() in answer.casefold())


def _best(name: str, **compare: Compare) -> Scorer:
    """The best of all references, for each metric."""

    async def score(item: Item, model: Model) -> ItemScore:
        answer = (await model.answer(item)).text
        values = {key: max(one(answer, reference) for reference in item.references) for key, one in compare.items()}
        return ItemScore(answer=answer, values=values)

    return Scorer(name, tuple(Metric(key) for key in compare), score, needs_question)


def _needs_schema(item: Item) -> str:
    if not item.messages and not item.prompt:
        return "messages or a prompt"
    try:
        schema = json.loads(item.labels.get("schema", ""))
    except ValueError:
        schema = None
    return "" if isinstance(schema, dict) else "labels.schema: a JSON schema, as text"


async def score_json(item: Item, model: Model) -> ItemScore:
    """Whether the answer is JSON, and whether it satisfies `labels.schema`. A code fence around it is taken off."""
    try:
        import jsonschema  # noqa: PLC0415  # other suites are scored without it
    except ImportError:
        raise InvalidInput("the scorer json_schema needs jsonschema: pip install 'llmos[evaluate]'") from None

    answer = (await model.answer(item)).text
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer.strip())
    try:
        value = json.loads(text)
    except ValueError:
        return ItemScore(answer=answer, values={"schema_valid": 0.0, "json_valid": 0.0})
    try:
        jsonschema.validate(value, json.loads(item.labels["schema"]))
    except jsonschema.ValidationError:
        return ItemScore(answer=answer, values={"schema_valid": 0.0, "json_valid": 1.0})
    except jsonschema.SchemaError as error:
        raise InvalidInput(f"labels.schema is not a JSON schema: {error.message}", param="labels.schema") from None
    return ItemScore(answer=answer, values={"schema_valid": 1.0, "json_valid": 1.0})


EXACT_MATCH = _best("exact_match", exact_match=exact, exact_match_normalised=exact_normalised)
F1 = _best("f1", f1=f1, exact_match_normalised=exact_normalised)
CONTAINS = _best("contains", contains=contains)
JSON_SCHEMA = Scorer("json_schema", (Metric("schema_valid"), Metric("json_valid")), score_json, _needs_schema)
