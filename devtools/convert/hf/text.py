"""Tokenizer, chat template, special tokens and sampling defaults of a Hugging Face directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from devtools.convert.hf.directory import read_json, read_optional_json, read_text
from devtools.convert.hf.tokenizer import read_tokenizer
from devtools.convert.model_text import END_TOKENS, ModelText
from devtools.convert.sampling_defaults import read_defaults
from shared.errors import CorruptFile
from shared.text.template import SPECIAL_TOKENS

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")
"""Keys of generation_config.json that are defaults of a version, under the same names."""


def read_model_text(folder: Path, config: Mapping[str, Any]) -> ModelText:
    """What `folder`, with the `config` of its config.json, says about text.

    Raises:
        UnsupportedFormat: no tokenizer.json.
        CorruptFile: a file is damaged or names a token that does not exist.
    """
    tokenizer = read_tokenizer(folder)
    settings, generation = (
        read_optional_json(folder / f"{name}_config.json") for name in ("tokenizer", "generation")
    )
    settings = {**read_optional_json(folder / "special_tokens_map.json"), **settings}
    bos, add_bos = _beginning(tokenizer, settings, generation, config)
    return ModelText(
        tokenizer=tokenizer,
        chat_template=_chat_template(folder, settings),
        bos_token_id=bos,
        add_bos_token=add_bos,
        eos_token_ids=_ends(tokenizer, settings, generation, config),
        special_tokens={name: _token_text(settings[name]) or "" for name in SPECIAL_TOKENS if name in settings},
    )


def sampling_defaults(folder: Path) -> dict[str, float | int | str]:
    """The sampling parameters that the model's authors recommend in generation_config.json.

    Raises:
        CorruptFile: one of them is not a number, or no request could have it.
    """
    generation = read_optional_json(folder / "generation_config.json")
    return read_defaults(generation, {key: key for key in _SAMPLING}, where="generation_config.json")


def _beginning(tokenizer: Tokenizer, *sources: Mapping[str, Any]) -> tuple[int | None, bool]:
    """The BOS token, and whether a plain prompt begins with it."""
    settings, *others = sources
    plain, dressed = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    put_before = dressed[0] if len(dressed) > len(plain) and dressed[-len(plain) :] == plain else None
    named = _token(tokenizer, settings.get("bos_token"), "tokenizer_config.json: bos_token")
    numbered = next((other["bos_token_id"] for other in others if isinstance(other.get("bos_token_id"), int)), None)
    bos = next((number for number in (put_before, named, numbered) if number is not None), None)
    if bos is not None and tokenizer.id_to_token(bos) is None:
        raise CorruptFile(f"the BOS token {bos} is not in the vocabulary", param="source")
    declared = settings.get("add_bos_token")
    return bos, bos is not None and (declared if isinstance(declared, bool) else put_before is not None)


def _ends(
    tokenizer: Tokenizer, settings: Mapping[str, Any], generation: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[int, ...]:
    """The end tokens: of generation_config.json, config.json, tokenizer_config.json, then those known by name."""
    ends: list[int] = []
    for where, source in (("generation_config.json", generation), ("config.json", config)):
        value = source.get("eos_token_id")
        for number in value if isinstance(value, list) else [value]:
            if number is None:
                continue
            if not isinstance(number, int) or number < 0 or tokenizer.id_to_token(number) is None:
                raise CorruptFile(f"{where}: the end token {number!r} is not in the vocabulary", param="source")
            ends.append(number)
    named = _token(tokenizer, settings.get("eos_token"), "tokenizer_config.json: eos_token")
    ends += [] if named is None else [named]
    added = tokenizer.get_added_tokens_decoder()
    ends += [number for number, token in sorted(added.items()) if token.special and token.content in END_TOKENS]
    return tuple(dict.fromkeys(ends))


def _token(tokenizer: Tokenizer, value: Any, where: str) -> int | None:
    """The id of a token that is given as its text, or as an object that holds it."""
    text = _token_text(value)
    if text is None:
        return None
    number = tokenizer.token_to_id(text)
    if number is None:
        raise CorruptFile(f"{where} {text[:80]!r} is not in the vocabulary", param="source")
    return int(number)


def _token_text(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template of chat_template.jinja, chat_template.json or tokenizer_config.json; of several, the default."""
    if (folder / "chat_template.jinja").exists():
        return read_text(folder / "chat_template.jinja")
    template = settings.get("chat_template")
    if (folder / "chat_template.json").exists():
        template = read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default") or next(iter(named.values()), None)
    if template is not None and not isinstance(template, str):
        raise CorruptFile("the chat template is not a text", param="source")
    return template
