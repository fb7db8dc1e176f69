"""Special tokens that a Unigram vocabulary would find in a text."""

import json

_NEVER = -1e6
"""A log probability that no segmentation of a text prefers."""


def without_special_words(definition: str) -> str:
    """A `tokenizer.json` whose model makes special tokens of no text.

    Unigram, the model of XLM-RoBERTa and its kin, has `</s>` among its words, with the best score of all. WordPiece
    and BPE cannot spell special tokens: their texts are cut into words or merged step by step.
    """
    if '"Unigram"' not in definition:
        return definition  # reading 17 MB takes a while
    read = json.loads(definition)
    model = read["model"]
    if model.get("type") != "Unigram":
        return definition
    special = {token["id"] for token in read.get("added_tokens") or () if token["special"]} - {model.get("unk_id")}
    model["vocab"] = [
        [word, _NEVER if number in special else score] for number, (word, score) in enumerate(model["vocab"])
    ]
    return json.dumps(read, ensure_ascii=False)
