"""What a run leaves.

| file | what |
|---|---|
| `write` | an adapter or a model, with where it came from |
| `hf_directory` | a model as a Hugging Face directory, which `llmos model import` takes |
| `hf_config` | an architecture as `config.json` |
| `hf_rope` | a rotation as the parameters of `config.json` |
| `folders` | folders that are whole or absent |
"""
