"""How each `tokenizer.ggml.pre` cuts a text into words before byte-level BPE merges their bytes.

llama.cpp's converter writes the name, and its loader defines what a name means
(https://github.com/ggml-org/llama.cpp: `conversion/base.py`, `get_vocab_base_pre`; `src/llama-vocab.cpp`,
`llm_tokenizer_bpe`). Patterns are those of the models' own `tokenizer.json`, because the models were trained with
them. llama.cpp's own engine makes other words of few texts, where it knows too little of Unicode: of combining marks
and letters beyond ASCII (`tekken`, `gpt-4o`), of `~` as a symbol (`deepseek-v3`), of white space beyond ASCII
(`deepseek-coder`). It also leaves out Qwen's composition of characters (NFC).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers

from shared.errors import CorruptFile, UnsupportedFormat

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED_CODER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}"
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHINESE_JAPANESE = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_PORO = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """What a name stands for.

    Attributes:
        patterns: Each cuts what the one before left, at its matches and between them.
        whole_words: Whether a word that is a token is that token, whatever its merges say.
        bos: Whether a prompt begins with the BOS token where the file is silent.
        composes: Whether characters are composed (NFC) first.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    bos: bool = False
    composes: bool = False

    def build(self) -> pre_tokenizers.PreTokenizer:
        """The same for the `tokenizers` library."""
        return pre_tokenizers.Sequence(
            [
                *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


DEFAULT = "default"
"""llama.cpp's guess for a file that names none."""

_GROUPS: tuple[tuple[PreTokenizer, tuple[str, ...]], ...] = (
    (
        PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
        (DEFAULT,),
    ),
    (
        PreTokenizer((_LLAMA3,), whole_words=True, bos=True),
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    ),
    (PreTokenizer((_LLAMA3,)), ("smaug-bpe", "dbrx", "glm4", "chatglm-bpe")),
    (PreTokenizer((_QWEN2,), composes=True), ("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2")),
    (PreTokenizer((_QWEN2,)), ("megrez", "stablelm2", "hunyuan", "solar-open", "grok-2")),
    (PreTokenizer((_QWEN35,), composes=True), ("qwen35",)),
    (PreTokenizer((_TEKKEN,), whole_words=True, bos=True), ("tekken",)),
    (PreTokenizer((_GPT4O,)), ("gpt-4o", "llama4", "kanana2")),
    (
        PreTokenizer((r"\p{N}", _GPT2)),
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    ),
    (
        PreTokenizer((_GPT2,)),
        (
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "trillion",
            "exaone4",
            "granite-docling",
        ),
    ),
    (
        PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _ASIAN, r"\p{N}")),
        ("deepseek-coder",),
    ),
    (
        PreTokenizer((r"\p{N}{1,3}", _CHINESE_JAPANESE, _DEEPSEEK3)),
        ("deepseek-v3", "hunyuan-dense", "joyai-llm"),
    ),
    (PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")), ("falcon",)),
    (PreTokenizer((_SEED_CODER,)), ("seed-coder",)),
    (PreTokenizer((_PORO, r"\p{N}")), ("viking",)),
    (PreTokenizer((_PORO,)), ("poro-chat", "bloom", "gpt3-finnish")),
)
PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {name: pre for pre, names in _GROUPS for name in names}


def pre_tokenizer_name(metadata: Mapping[str, Any]) -> str:
    """What `tokenizer.ggml.pre` of a byte-level BPE says; `DEFAULT` where it is absent or empty.

    Raises:
        UnsupportedFormat: an unknown name.
        CorruptFile: not a text.
    """
    name = metadata.get("tokenizer.ggml.pre")
    if name is None or name == "":
        return DEFAULT
    if not isinstance(name, str):
        raise CorruptFile(f"the key 'tokenizer.ggml.pre' is {name!r}, expected a text", param="source")
    if name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise UnsupportedFormat(
            f"the pre-tokenizer {name[:80]!r} ('tokenizer.ggml.pre') is not supported; supported: {known}."
            " Import the model's Hugging Face directory instead, whose tokenizer.json says how it cuts text",
            param="source",
        )
    return name
