"""What a model's source says about text: its tokenizer, chat template and special tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from devtools.convert.chat_template import check_chat_template
from shared.errors import CorruptFile, UnsupportedFormat

END_TOKENS = frozenset(
    {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>"}
)
"""Control tokens that end a turn whether or not the source says so, as in llama.cpp's `special_eog_ids`."""


@dataclass(frozen=True, slots=True)
class ModelText:
    """The tokenizer and what goes with it.

    Attributes:
        tokenizer: Adds nothing to a text that it was not asked for.
        chat_template: Jinja; None for a base model.
        bos_token_id: The token that begins a text, if the model has one.
        add_bos_token: Whether a plain prompt begins with it; a chat template writes it itself.
        eos_token_ids: The tokens that end an answer, the main one first.
        special_tokens: `DecoderSpec.special_tokens`.
    """

    tokenizer: Tokenizer
    chat_template: str | None
    bos_token_id: int | None
    add_bos_token: bool
    eos_token_ids: tuple[int, ...]
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def check(self, vocab_size: int) -> None:
        """Check against the `vocab_size` rows of the embedding, and try the chat template.

        Raises:
            CorruptFile: a token that the embedding does not have.
            UnsupportedFormat: no token ends an answer, or the chat template renders no conversation.
        """
        largest = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= vocab_size:
            raise CorruptFile(
                f"the tokenizer has {largest + 1:,} tokens, the embedding {vocab_size:,}: they belong to different"
                " models",
                param="source",
            )
        if not self.eos_token_ids:
            raise UnsupportedFormat(
                "the source names no end token ('tokenizer.ggml.eos_token_id' in a GGUF, 'eos_token_id' in"
                " generation_config.json): answers would never end",
                param="source",
            )
        if self.chat_template:
            check_chat_template(self.chat_template, self.special_tokens)
