"""Hyperparameters as a recipe: the TOML that the training tool reads (`devtools.train.recipe`). Pure."""

from shared.contracts.fine_tuning import FineTuning

ADAPTER_LEARNING_RATE = 1e-3
"""The recipe's default for adapters, which `learning_rate_multiplier` is a multiple of; a test compares."""


def recipe_of(request: FineTuning, *, max_len: int) -> str:
    """The recipe; what is "auto" is left to its defaults.

    Args:
        request: What was asked for.
        max_len: Tokens of a row.
    """
    chosen = request.hyperparameters
    lines = [
        f'method = "{"dpo" if request.method == "dpo" else "sft"}"',
        'weights = "adapter"',
        f"seed = {request.seed}",
        f"max_len = {max_len}",
    ]
    if chosen.n_epochs != "auto":
        lines.append(f"epochs = {chosen.n_epochs}")
    if chosen.batch_size != "auto":
        lines.append(f"batch = {chosen.batch_size}")
    if chosen.learning_rate_multiplier != "auto":
        rate = ADAPTER_LEARNING_RATE * float(chosen.learning_rate_multiplier)
        lines += ["", "[optimizer]", f"learning_rate = {rate:.10g}"]
    if chosen.beta not in (None, "auto"):
        lines += ["", "[dpo]", f"beta = {float(chosen.beta):.10g}"]
    return "\n".join(lines) + "\n"
