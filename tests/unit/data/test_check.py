"""Planted defects are found with file and line; a clean file has none."""

import pytest

from devtools.data.check import Limits
from devtools.data.check_files import check_files
from devtools.data.near import NearDuplicates
from devtools.data.overlap import index_of
from devtools.data.rows import Item

QUESTION = "How do I change the delivery address of an order that has not been sent yet?"
LONG = " ".join(f"word{n}" for n in range(80))
ITEM = "Which of the four regional depots answers for orders from the northern islands?"
SUITE = {"team": index_of([Item(prompt=ITEM)])}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def conversation(question, answer, **more):
    return {"messages": [message("user", question), message("assistant", answer)], **more}


CLEAN = [
    {
        "messages": [
            message("system", "Be brief."),
            *conversation(QUESTION, "Open the order and choose Change.")["messages"],
        ]
    },
    conversation("Où est ma commande ?", "Elle est partie hier; elle arrive demain matin."),
    conversation("发票在哪里\uff1f", "在“我的订单”里。"),
    conversation("What does <b>bold</b> mean in HTML?", "It marks text: `<b>x</b>` is shown in bold."),
    conversation("How many are 12 times 12?", "144"),
    conversation("Which ports does version 10.0.0.1 use?", "8000 and 8001. See 192.168.0.1 in the manual."),
    conversation("And again?", "Yes.", id="a"),
    conversation("And now?", "No.", id="b"),
]
PLANTED = {
    "not_json": b'{"messages": [{"role": "user", "content": "cut',
    "not_utf8": b'{"messages": "caf\xe9"}',
    "other_form": {"text": "a text among chats"},
    "missing_field": {"messages": "none"},
    "broken_roles": {"messages": [message("user", "a"), message("user", "b"), message("assistant", "c")]},
    "broken_tool_call": {"messages": [message("user", "a"), message("tool", "b", tool_call_id="?")]},
    "empty_answer": conversation("Is anybody there?", ""),
    "mojibake": conversation("Wo liegt München?", "MÃ¼nchen liegt in Bayern."),
    "control_character": conversation("What is\x00 this?", "Nothing."),
    "special_token": conversation("What comes now?", "This.<|im_end|>"),
    "too_long": conversation("Write much.", LONG),
    "duplicate": conversation("How many are 12 times 12?", "144"),
    "duplicate_id": conversation("And later?", "Perhaps.", id="a"),
    "near_duplicate": conversation(QUESTION, "Open the order and choose Change"),
    "repetition": conversation("Why?", "because it is so and " * 20),
    "personal_data.email": conversation("Whom do I ask?", "Write to ann.lee@firm.org."),
    "overlap.team": conversation(ITEM, "Depot 4."),
}  # fmt: skip
LIMITS = Limits(max_characters=450, suites=SUITE)


def check(path, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    report = check_files([path], work, limits=LIMITS, near=NearDuplicates(0.7))
    return {finding.kind: finding for finding in report.findings}, report


def test_a_clean_file_has_no_finding(jsonl, tmp_path):
    found, report = check(jsonl(*CLEAN), tmp_path)
    assert not found
    assert report.facts.rows == len(CLEAN)
    assert report.facts.languages["en"] > 2


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_defect_is_found_where_it_is(jsonl, tmp_path, kind):
    found, _ = check(jsonl(*CLEAN, PLANTED[kind], *CLEAN[5:6]), tmp_path)
    found.pop("duplicate") if kind != "duplicate" else None  # the clean row behind it is there twice
    assert set(found) == {kind}
    assert f"rows.jsonl:{len(CLEAN) + 1}" in found[kind].examples


def test_all_planted_defects_are_found_together(jsonl, tmp_path):
    found, _ = check(jsonl(*CLEAN, *PLANTED.values()), tmp_path)
    assert set(found) == set(PLANTED)
    places = {kind: finding.examples[0] for kind, finding in found.items()}
    assert places == {kind: f"rows.jsonl:{number}" for number, kind in enumerate(PLANTED, start=len(CLEAN) + 1)}


def test_answers_that_are_the_same_are_found(jsonl, tmp_path):
    found, _ = check(jsonl({"prompt": "a", "chosen": "b", "rejected": "b"}), tmp_path)
    assert set(found) == {"equal_pair"}
