"""The canonical form of a row: what its id is made of. A change of it would give every row another name."""

import json

from hypothesis import given
from hypothesis import strategies as st

from devtools.data.rows import Item, Turn, parse_row
from shared.contracts.replica import ChatMessage

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(texts, texts, st.dictionaries(texts, texts, max_size=4))
def test_it_is_utf8_json_with_sorted_keys_and_no_white_space(question, answer, labels):
    rows = [
        Turn(
            messages=(ChatMessage(role="user", content=question),),
            answer=ChatMessage(role="assistant", content=answer),
        ),
        Item(prompt=question, references=(answer, "x"), labels=labels),
    ]
    for row in rows:
        content = json.loads(row.canonical())
        assert (
            row.canonical() == json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        )
        assert parse_row(row.canonical(), "here") == row


def test_the_id_of_a_row_stays_what_it_was():
    row = Turn(messages=(ChatMessage(role="user", content="Hi"),), answer=ChatMessage(role="assistant", content="Hé"))
    assert row.canonical() == (
        '{"answer":{"content":"Hé","role":"assistant"},"kind":"turn","messages":[{"content":"Hi","role":"user"}]}'.encode()
    )
    assert row.id == "5c198df32fa843b8cc438534c5518153"
