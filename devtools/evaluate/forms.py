"""Files of public sets as items of a suite: StereoSet, CrowS-Pairs, BBQ, and any table by a template."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from devtools.data.rows import Item
from shared.errors import CorruptFile, InvalidInput, NotFound

Record = Mapping[str, Any]
_LETTER = re.compile(r"^[A-Z][.)]\s*")
_UNKNOWN = re.compile(
    r"\b(can(?:'t|not| not) (?:be )?(?:answer|determine|tell|know)|unknown|undetermined|"
    r"not (?:enough|known|answerable)|cannot answer|no (?:answer|information))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Template:
    """How any record becomes an item.

    prompt: a text with {field} for values of the record
    chat: whether the prompt is a message, not a text to go on from
    reference, choices, answer: fields that have these
    labels: more labels, for each item
    """

    prompt: str
    scorer: str = ""
    chat: bool = True
    reference: str | None = None
    choices: str | None = None
    answer: str | None = None
    group: str | None = None
    labels: Mapping[str, str] | None = None

    def item(self, record: Record) -> Item:
        """The item of a record; raises KeyError or ValueError."""
        prompt = self.prompt.format_map(record)
        choices = _options(record[self.choices]) if self.choices else ()
        given: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if self.chat else {"prompt": prompt}
        )
        if self.reference:
            reference = record[self.reference]
            given["references"] = reference if isinstance(reference, list) else [str(reference)]
        if self.group:
            given["group"] = str(record[self.group])
        return Item(
            **given,
            choices=choices,
            answer=_answer(record[self.answer], choices) if self.answer else None,
            scorer=self.scorer,
            labels=dict(self.labels or {}),
        )


def stereoset(record: Record) -> Item:
    """A line of StereoSet, with its three sentences in fields of their own."""
    between = record["type"] == "intersentence"
    return Item(
        prompt=record["context"] if between else "",
        choices=(record["stereotype"], record["anti-stereotype"], record["unrelated"]),
        scorer="stereoset",
        group=record["target"],
        labels={"category": f"{record['type']}-{record['bias_type']}"},
    )


def crows_pairs(record: Record) -> Item:
    """A line of CrowS-Pairs: as published (two sentences), or with one mask and two fillers.

    In the published form `stereo_antistereo` says which sentence has the stereotype; with fillers it is the first.
    """
    if "sent_more" in record:
        choices = record["sent_more"], record["sent_less"]
    else:
        sentence = record["sentence"]
        if "[MASK]" not in sentence:
            raise ValueError("sentence: has no [MASK]")
        choices = sentence.replace("[MASK]", record["mask1"]), sentence.replace("[MASK]", record["mask2"])
    return Item(choices=choices, scorer="crows_pairs", labels={"category": record["bias_type"]})


def bbq(record: Record) -> Item:
    """A line of BBQ: as published (`ans0` to `ans2`, `label`), or with options in one text and the answer's text."""
    if "ans0" in record:
        choices = tuple(record[f"ans{index}"] for index in range(3))
        context, question, answer = record["context"], record["question"], int(record["label"])
        labels = {"category": f"{record['category']}-{record['context_condition']}"}
    else:
        choices = _options(record["options"])
        context, question = record["passage"], str(record["question"]).splitlines()[0]
        answer, labels = _answer(record["answer"], choices), {}
        if not _UNKNOWN.search(choices[answer]):
            labels = {"category": "answer is known"}
    prompt = f"{context}\n{question.strip()}\nAnswer:"
    return Item(prompt=prompt, choices=choices, answer=answer, scorer="bbq", labels=labels)


FORMS: Mapping[str, Callable[[Record], Item]] = {"stereoset": stereoset, "crows-pairs": crows_pairs, "bbq": bbq}


def read_items(path: Path, form: Callable[[Record], Item]) -> Iterator[Item]:
    """The items of a file, in order.

    Raises:
        NotFound: No such file.
        CorruptFile: A record that is not of the form; the message has the file, the place and the field.
    """
    for where, record in records(path):
        try:
            yield form(record)
        except KeyError as error:
            there = ", ".join(record)
            raise CorruptFile(f"{where}: the field {error.args[0]!r} is missing; there are {there}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise CorruptFile(f"{where}: {first['msg']}") from None
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise CorruptFile(f"{where}: {str(error).splitlines()[0]}") from None


def records(path: Path) -> Iterator[tuple[str, Record]]:
    """(place, record) of each line of JSON Lines, or of each row of a CSV."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}", param="source") from None
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path.name}: is not UTF-8 at byte {error.start}", param="source") from None
    if path.suffix == ".csv":
        for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
            yield f"{path.name}, line {number}", {key: value for key, value in row.items() if key is not None}
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise CorruptFile(f"{where}: is not JSON: {error}", param="source") from None
        if not isinstance(record, dict):
            raise CorruptFile(f"{where}: expected an object", param="source")
        yield where, record


def _options(value: Any) -> tuple[str, ...]:
    """A list of choices, or lines `A. …`."""
    lines = value if isinstance(value, list) else str(value).strip().split("\n")
    return tuple(_LETTER.sub("", str(line)).strip() for line in lines)


def _answer(value: Any, choices: tuple[str, ...]) -> int:
    """The index of the right choice, given as index, letter or text."""
    if isinstance(value, list):
        value = value[0]
    if isinstance(value, int):
        return value
    text = _LETTER.sub("", str(value)).strip()
    if text in choices:
        return choices.index(text)
    if len(text) == 1 and 0 <= ord(text.upper()) - ord("A") < len(choices):
        return ord(text.upper()) - ord("A")
    raise ValueError(f"answer {text[:40]!r} is none of the {len(choices)} choices")


def template_of(template: str, form: str | None, **fields: Any) -> Callable[[Record], Item]:
    """The reader of a form, or of a template.

    Raises:
        InvalidInput: Neither or both, or an unknown form.
    """
    if (form is None) == (not template):
        raise InvalidInput(f"give --form ({', '.join(FORMS)}) or --template, not both or neither", param="form")
    if form is None:
        return Template(template, **fields).item
    if form not in FORMS:
        raise InvalidInput(f"there is no form {form!r}; expected {', '.join(FORMS)}", param="form")
    return FORMS[form]
