"""Makes `golden_logits.npz`: what transformers computes for each model of `tiny_families`.

Run by hand, in an environment with torch 2.13 and transformers 4.57, from the repository's root:

    python -m tests.support.references.make_golden_logits
"""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.support.models.tiny_families import CONFIGS, IDS, MIXTURES, random_weights

GOLDEN = Path(__file__).with_name("golden_logits.npz")
ROWS = [4, 9, 15]
"""The positions whose logits are kept: before, within and after a window is full twice."""


def main() -> None:
    golden = {}
    for name, config in (CONFIGS | MIXTURES).items():
        values = dict(config)
        model_type = values.pop("model_type")
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(model_type, **values), attn_implementation="eager", dtype=torch.float32
        ).eval()
        weights = {key: torch.from_numpy(value) for key, value in random_weights(config).items()}
        missing, unexpected = model.load_state_dict(weights, strict=False)
        # A tied head is the embedding under another name.
        if unexpected or set(missing) - ({"lm_head.weight"} if config["tie_word_embeddings"] else set()):
            raise SystemExit(f"{name}: missing {missing}, unexpected {unexpected}")
        with torch.inference_mode():
            golden[name] = model(torch.tensor([IDS])).logits[0, ROWS].numpy()
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
