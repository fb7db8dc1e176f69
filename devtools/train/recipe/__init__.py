"""What a training run does: a TOML file in, a frozen recipe out.

| file | what |
|---|---|
| `recipe` | the whole: parsed, and checked as one |
| `tables` | its tables, key by key |
| `errors` | one line about what is wrong, with the nearest name |
| `schedule` | the learning rate of each step |
"""

from devtools.train.recipe.recipe import Recipe, parse_recipe, read_recipe

__all__ = ["Recipe", "parse_recipe", "read_recipe"]
