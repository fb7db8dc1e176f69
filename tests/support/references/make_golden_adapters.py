"""Makes `golden_adapters/`: adapters that PEFT wrote, and the logits that PEFT and transformers compute with them.

Run by hand, in an environment with torch 2.13, transformers 5 and peft 0.21, from the repository's root:

    python -m tests.support.references.make_golden_adapters
"""

from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.support.models.tiny_families import CONFIGS, IDS, random_weights

GOLDEN = Path(__file__).with_name("golden_adapters")
KINDS = {
    "lora": ("llama2", {"lora_alpha": 6}),
    "dora": ("llama2", {"lora_alpha": 4, "use_dora": True}),
    "rslora": ("qwen2", {"lora_alpha": 3, "use_rslora": True}),
}
"""Name -> a model of `tiny_families`, and what the adapter is."""


def main() -> None:
    logits = {}
    for name, (family, options) in KINDS.items():
        values = dict(CONFIGS[family])
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(values.pop("model_type"), **values), attn_implementation="eager", dtype=torch.float32
        )
        weights = {key: torch.from_numpy(value) for key, value in random_weights(CONFIGS[family]).items()}
        model.load_state_dict(weights, strict=False)
        targets = ["q_proj", "k_proj", "down_proj"]
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM", **options))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for key, parameter in adapted.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(generator=generator)
                if "magnitude" in key:
                    parameter.mul_(torch.rand(parameter.shape, generator=generator) + 0.5)
        adapted.save_pretrained(GOLDEN / name)
        (GOLDEN / name / "README.md").unlink()
        with torch.inference_mode():
            logits[name] = adapted.eval()(torch.tensor([IDS])).logits[0].numpy()
    np.savez_compressed(GOLDEN / "logits.npz", **logits)


if __name__ == "__main__":
    main()
