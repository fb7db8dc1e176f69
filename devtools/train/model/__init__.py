"""A decoder in PyTorch: the architecture that is served, with the weights that are served.

| file | what |
|---|---|
| `decoder` | token ids to hidden states to logits, for every family |
| `attention` | queries, keys and values; softmax(QK^T / sqrt(d_k)) V |
| `linear` | products with a matrix of floats, or of codes that are dequantised when they are used |
| `codes` | a frozen matrix as it is stored: 4, 8 or 16 bits a weight |
| `lora` | low-rank differences to matrices; LoRA and DoRA |
| `peft` | an adapter as PEFT's files |
| `check` | the decoder against the numpy reference |
| `gpt` | models from scratch: sizes by name, own BPE |
"""
