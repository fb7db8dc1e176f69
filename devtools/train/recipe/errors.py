"""One line about what is wrong with a recipe."""

from difflib import get_close_matches
from typing import TypeGuard

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, recipe: type[BaseModel]) -> tuple[str, str]:
    """The message for the first fault, and the key that it is about."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        return _unknown(place, recipe), key
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return f"recipe: {message}", "recipe"
    return f"recipe: {key} is {first['input']!r}: {message[0].lower() + message[1:]}", key


def keys(recipe: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of the recipe in dotted form, tables before what they hold."""
    found = []
    for name, field in recipe.model_fields.items():
        found.append(prefix + name)
        for kind in (field.annotation, *_union(field.annotation)):
            if _is_table(kind):
                found += keys(kind, f"{prefix}{name}.")
    return found


def _union(annotation: object) -> tuple[object, ...]:
    return getattr(annotation, "__args__", ())


def _is_table(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _unknown(place: list[str], recipe: type[BaseModel]) -> str:
    """The nearest name in the same table, or the same name in another one."""
    key, known = ".".join(place), keys(recipe)
    elsewhere = [name for name in known if name.rsplit(".", 1)[-1] == place[-1]]
    prefix = "".join(f"{part}." for part in place[:-1])
    here = {name.removeprefix(prefix): name for name in known if name.startswith(prefix)}
    near = get_close_matches(place[-1], [name for name in here if "." not in name], n=1, cutoff=0.5)
    nearest = [here[near[0]]] if near else elsewhere or get_close_matches(key, known, n=1, cutoff=0.4)
    advice = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(sorted(here))}"
    return f"recipe: unknown key {key!r}; {advice}"
