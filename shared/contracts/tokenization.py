"""What a replica does with its tokenizer alone: texts to token ids and back, without computing anything."""

from pydantic import Field, model_validator

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.replica import ChatMessage, TemplateOptions, Tool

MAX_CHARS = 1_000_000
"""Characters of a text, or of a rendered conversation: tokenising them takes about a second."""
MAX_IDS = 1 << 18
"""Token ids that are turned into text at once."""


class Tokenize(Contract):
    """Turn a text or a conversation into token ids. Exactly one of `prompt` and `messages` is given.

    The text need not fit the deployment: its length is what many callers want to know.
    """

    prompt: str | None = None
    messages: tuple[ChatMessage, ...] | None = None
    tools: tuple[Tool, ...] = ()
    """With `messages`."""
    add_special_tokens: bool = True
    """Whether the ids begin with BOS if the model was trained so; of an encoder: whether its special tokens are
    added. A chat template has its own."""
    parse_special: bool | None = None
    """With `prompt`: whether the control tokens spelled in it are control tokens; otherwise they are text. None: they
    are for a decoder, because clients look ids up here, and render conversations; never for an encoder."""
    template: TemplateOptions = TemplateOptions()
    """With `messages`."""
    return_token_strs: bool = False
    tenant: str = ""
    """Tenants take turns."""

    @model_validator(mode="after")
    def _one_text(self) -> "Tokenize":
        if (self.prompt is None) == (self.messages is None):
            msg = "exactly one of prompt and messages is expected"
            raise ValueError(msg)
        return self


class Tokenized(Contract):
    """The token ids of a text."""

    token_ids: tuple[int, ...]
    token_strs: tuple[str, ...] | None = None
    """The tokens as the vocabulary writes them; with `Tokenize.return_token_strs`."""
    max_len: int
    """Tokens that the deployment takes."""


class Detokenize(Contract):
    """Turn token ids into text, control tokens as the vocabulary writes them."""

    token_ids: tuple[int, ...] = Field(max_length=MAX_IDS)
    tenant: str = ""
    """Tenants take turns."""


class Detokenized(Contract):
    """The text of token ids."""

    text: str


class TokenizerInfo(Contract):
    """What a client needs to know about a tokenizer; what the model does not have is None."""

    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    add_bos_token: bool = False
    """Whether a plain text begins with BOS."""
    chat_template: str | None = None
    """jinja2."""
    max_len: int
    """Tokens that the deployment takes."""


def tokenize_endpoint(replica_id: str) -> Endpoint[Tokenize, Tokenized]:
    """`tokenize` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.tokenize", Tokenize, Tokenized)


def detokenize_endpoint(replica_id: str) -> Endpoint[Detokenize, Detokenized]:
    """`detokenize` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.detokenize", Detokenize, Detokenized)


def tokenizer_info_endpoint(replica_id: str) -> Endpoint[Empty, TokenizerInfo]:
    """`tokenizer_info` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.tokenizer_info", Empty, TokenizerInfo)


Tokenize.EXAMPLE = Tokenize(prompt="Hello, world", return_token_strs=True)
Tokenized.EXAMPLE = Tokenized(token_ids=(9707, 11, 1879), token_strs=("Hello", ",", "Ġworld"), max_len=4096)
Detokenize.EXAMPLE = Detokenize(token_ids=(9707, 11, 1879))
Detokenized.EXAMPLE = Detokenized(text="Hello, world")
TokenizerInfo.EXAMPLE = TokenizerInfo(bos_token="<|im_start|>", eos_token="<|im_end|>", max_len=4096)  # noqa: S106
