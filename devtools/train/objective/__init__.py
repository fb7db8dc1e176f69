"""What is minimised.

| file | what |
|---|---|
| `losses` | the formulas: negative log likelihood, divergences, DPO |
| `objective` | the loss of a micro-batch by a recipe's method |
| `counts` | what the losses of a step are divided by |
| `perturb` | noise and adversarial steps on embeddings: NEFTune, FGM, FreeLB |
| `marks` | places where one of two words follows |
| `word_pairs` | the equalising loss and gradient reversal at those places |
"""
