"""Reads the tokenizer.json of a model."""

from pathlib import Path

from tokenizers import Tokenizer

from devtools.convert.hf.directory import read_text
from devtools.convert.hostile_text import try_hostile_texts
from shared.errors import CorruptFile, UnsupportedFormat
from shared.panics import no_panics


def read_tokenizer(folder: Path, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a Hugging Face directory, without the truncation and padding that its file may ask for.

    Args:
        folder: Holds tokenizer.json.
        vocab_size: Token ids that the model knows; None if that is checked elsewhere.

    Raises:
        UnsupportedFormat: there is no tokenizer.json.
        CorruptFile: it can't be read, fails on some text, or has more tokens than the model.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise UnsupportedFormat(
            f"{folder} has no tokenizer.json; make it with transformers:"
            " AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)",
            param="source",
        )
    text = read_text(path)
    with no_panics(_unusable):
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001  # the library raises nothing more specific
            raise _unusable(str(error)) from None
    try_hostile_texts(tokenizer)  # before any other text is given to it
    # A text that is too long is refused, never cut.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if vocab_size is not None and size > vocab_size:
        raise CorruptFile(f"tokenizer.json has {size} tokens, but config.json says {vocab_size}", param="source")
    return tokenizer


def _unusable(reason: str) -> CorruptFile:
    return CorruptFile(f"tokenizer.json can't be used ({reason[:200]}); download it again", param="source")
