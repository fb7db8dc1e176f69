"""What each step does to rows."""

import pytest

from devtools.data.balance import Balance, Swap, pairs_of, swap
from devtools.data.clean import Unicode, fix
from devtools.data.columns import Columns
from devtools.data.language import Language
from devtools.data.length import Length, Tokenizer
from devtools.data.masking import Private
from devtools.data.near import Duplicates, NearDuplicates
from devtools.data.overlap import Overlap, index_of
from devtools.data.recipe import STEPS
from devtools.data.repeat import Repetition, repetition
from devtools.data.rows import Item, Pair, Text, Turn
from devtools.data.split import Split
from shared.contracts.replica import ChatMessage, ToolCall
from shared.errors import InvalidInput
from tests.support.models.small_tokenizers import byte_level


def turn(question, answer, **more):
    return Turn(
        messages=(ChatMessage(role="user", content=question),),
        answer=ChatMessage(role="assistant", content=answer),
        **more,
    )


def stays(step, rows, tmp_path):
    """The numbers of the rows that a whole step keeps."""
    columns = Columns(tmp_path)
    for start in range(0, len(rows), 3):
        block = rows[start : start + 3]
        columns.append(step.sketch(block), len(block))
    flags = step.decide(columns, rows.__getitem__)
    columns.close()
    return [number for number, flag in enumerate(flags) if flag]


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("schÃ¶n", "schön"),
        ("a\x00b\ufeff", "ab"),
        ("cafe\u0301", "café"),
        ("“quotes” stay, and \uff21\uff22 and &amp;", "“quotes” stay, and \uff21\uff22 and &amp;"),
        ("plain\ttext\n", "plain\ttext\n"),
    ],
)
def test_unicode_is_repaired_and_what_is_meant_stays(text, fixed):
    assert fix(text) == fixed
    assert Unicode().apply(turn("q", text))[0].answer.content == fixed


def test_a_row_that_needs_no_repair_is_the_same_object():
    row = turn("q", "fine")
    assert Unicode().apply(row)[0] is row


def test_rows_in_other_languages_are_dropped_and_short_ones_are_not_judged():
    step = Language(("en", "zh"))
    german = turn("Wo ist meine Bestellung geblieben?", "Sie ist gestern verschickt worden und kommt morgen an.")
    english = turn("Where is my order, please?", "It was sent yesterday and arrives tomorrow.")
    assert [bool(step.apply(row)) for row in (german, english, turn("OK", "SHIP-7"))] == [False, True, True]
    with pytest.raises(InvalidInput, match="not known"):
        Language(("xx",))


def test_length_is_in_characters_and_in_tokens(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(byte_level())
    tokenizer = Tokenizer.from_file(path)
    row = Text(text="hello there")
    tokens = tokenizer.count_row(row)
    assert tokens > 1
    assert Length(max_tokens=tokens, tokenizer=tokenizer).apply(row) == (row,)
    assert Length(max_tokens=tokens - 1, tokenizer=tokenizer).apply(row) == ()
    assert Length(min_characters=11, max_characters=11).apply(row) == (row,)
    assert Length(min_characters=12).apply(row) == Length(max_characters=10).apply(row) == ()
    with pytest.raises(InvalidInput, match="tokenizer"):
        Length(max_tokens=5)


@pytest.mark.parametrize(
    "text",
    [
        "again and again " * 30,
        "the same line\n" * 6,
        "\n".join(f"{n} is a number that is written in words" for n in range(40)),
    ],
)
def test_texts_that_repeat_themselves_are_dropped(text):
    assert repetition(text)
    assert Repetition().apply(Text(text=text)) == ()


def test_prose_is_no_repetition():
    text = (
        "The store opens at nine. On Sundays it stays closed, except in December, when families come for presents"
        " and the owner bakes cakes. Anybody may return a purchase within a month; the receipt is enough. Parcels"
        " leave each evening, so an order placed before noon arrives the next day in most towns."
    )
    assert not repetition(text)
    assert not repetition("no, no, no")


def test_personal_data_is_masked_also_in_arguments_of_calls():
    call = ToolCall(id="1", name="send", arguments='{"to": "ann@firm.org", "card": 4111111111111111, "n": 3}')
    row = turn("I am ann@firm.org", "").model_copy(
        update={"answer": ChatMessage(role="assistant", tool_calls=(call,))}
    )
    (masked,) = Private().apply(row)
    assert masked.messages[0].content == "I am [EMAIL]"
    assert masked.answer.tool_calls[0].arguments == '{"to": "[EMAIL]", "card": "[CARD]", "n": 3}'
    assert Private(action="drop").apply(row) == ()
    assert Private(kinds=("iban",)).apply(row)[0] is row


def test_sentences_in_which_a_classifier_finds_a_person_are_masked():
    asked = []

    def classify(texts):
        asked.extend(texts)
        return ["PER" if "Boris" in text else "O" for text in texts]

    step = Private(model="ner", classify=classify)
    assert step.apply(Text(text="Boris called. It rained.\nBye."))[0].text == "[PERSON] It rained.\nBye."
    assert asked == ["Boris called.", "It rained.", "Bye."]
    with pytest.raises(InvalidInput, match="model"):
        Private(model="ner")


def test_equal_rows_are_dropped_but_the_first(tmp_path):
    rows = [Text(text=text) for text in "abacab"]
    assert stays(Duplicates(), rows, tmp_path) == [0, 1, 3]


WORDS = [f"word{n}" for n in range(60)]


def test_near_duplicates_are_dropped_and_turns_of_a_conversation_are_not(tmp_path):
    original = Text(text=" ".join(WORDS))
    changed = Text(text=" ".join([*WORDS[:30], "other", *WORDS[31:]]))
    half = Text(text=" ".join([*WORDS[:30], *(f"more{n}" for n in range(30))]))
    other_order = Text(text=" ".join(reversed(WORDS)))
    assert stays(NearDuplicates(0.7), [original, half, changed, other_order, original], tmp_path) == [0, 1, 3]
    group = [row.model_copy(update={"group": "g"}) for row in (original, changed)]
    assert stays(NearDuplicates(0.7), group, tmp_path) == [0, 1]
    empty = [turn("?", "!"), turn("...", "!!"), Text(text="same"), Text(text="same")]
    assert stays(NearDuplicates(0.7), empty, tmp_path) == [0, 1, 2]


def test_many_copies_of_one_row_are_found(tmp_path):
    rows = [Text(text=" ".join([*WORDS, f"copy{n}"])) for n in range(100)]
    assert stays(NearDuplicates(0.7), rows, tmp_path) == [0]


def test_rows_with_words_of_a_suite_are_dropped():
    suite = [Item(prompt=" ".join(WORDS[:20]), references=("Paris",)), Item(prompt="What is the capital of France?")]
    step = Overlap(("ab" * 32,), (index_of(suite),))
    assert step.apply(turn("so: " + " ".join(WORDS[5:18]), "yes")) == ()
    assert step.apply(turn("Tell me: what is the CAPITAL of France", "Paris")) == ()
    assert len(step.apply(turn(" ".join(WORDS[5:17]), "Paris"))) == 1


def test_a_split_depends_on_the_group_only():
    split = Split(validation=0.2, test=0.1)
    rows = [turn(f"question {n}", f"answer {n}") for n in range(2000)]
    of = [split.of(row, "train") for row in rows]
    assert 0.17 < of.count("validation") / len(of) < 0.23
    assert 0.08 < of.count("test") / len(of) < 0.12
    assert [split.of(turn(f"question {n}", "another answer"), "train") for n in range(2000)] == of
    assert split.of(rows[0], "validation") == "validation"
    assert [Split(0.2, 0.1, seed=1).of(row, "train") for row in rows] != of
    with pytest.raises(InvalidInput, match="below 1"):
        Split(validation=0.6, test=0.4)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Anna said that she was late.", "Paul said that he was late."),
        ("HE called His mother; the king waved.", "SHE called Her father; the queen waved."),
        ("I saw her.", "I saw him."),
        ("I saw her brother with him", "I saw his sister with her"),
        ("The book is his.", "The book is hers."),
        ("The book is hers, not yours.", "The book is his, not yours."),
        ("The weather is theirs.", "The weather is theirs."),
    ],
)
def test_names_and_pronouns_are_swapped_together(text, swapped):
    assert swap(text, pairs_of(["gender"])) == swapped


def test_a_counterfactual_copy_stays_in_the_group_of_its_row():
    row, copy = Swap(("gender",)).apply(turn("Who is late?", "He is."))
    assert copy.answer.content == "She is."
    assert Split(validation=0.5).of(row, "train") == Split(validation=0.5).of(copy, "train")
    plain = turn("Who?", "They.")
    assert Swap(("cat:dog",)).apply(plain) == (plain,)
    with pytest.raises(InvalidInput, match="word:word"):
        Swap(("nurse",))
    with pytest.raises(InvalidInput, match="two pairs"):
        Swap(("a:b", "a:c"))


def test_balancing_leaves_as_many_rows_of_each_side(tmp_path):
    rows = [Text(text=f"the nurse said that {'she' if n % 10 else 'he'} saw {n}") for n in range(100)]
    rows += [Text(text=f"the nurse and the doctor saw {n}") for n in range(3)]
    left = [rows[number].text for number in stays(Balance(("nurse", "doctor")), rows, tmp_path)]
    assert sum("she" in text for text in left) == sum(" he " in text for text in left) == 10
    assert len(left) == 23


def test_pairs_keep_their_form():
    pair = Pair(
        messages=(ChatMessage(role="user", content="\x00q"),),
        chosen=ChatMessage(role="assistant", content="a\x00"),
        rejected=ChatMessage(role="assistant", content="b"),
    )
    (fixed,) = Unicode().apply(pair)
    assert (fixed.messages[0].content, fixed.chosen.content, fixed.rejected) == ("q", "a", pair.rejected)


def test_every_step_has_a_name_and_a_version():
    assert all(name == step.name and step.version >= 1 for name, step in STEPS.items())
