"""What an evaluation is told; as TOML it is the recipe of a job."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devtools.toml import parse_toml, toml_text
from shared.errors import InvalidInput


class Options(BaseModel):
    """What is evaluated, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    """A deployment, or a version that a deployment serves."""
    against: str | None = None
    """The baseline, in the same form."""
    n: int | None = Field(default=None, ge=1)
    """Items of each suite at most."""
    typos: float = Field(default=0.0, ge=0, le=0.5)
    """Share of letters with typing errors, with which each item is asked too."""
    judge: str | None = None
    """The deployment that judges answers."""

    def to_toml(self) -> str:
        """The recipe."""
        return toml_text(self.model_dump(exclude_none=True))

    @classmethod
    def from_toml(cls, text: str) -> "Options":
        """From a recipe; raises InvalidInput naming the key."""
        try:
            return cls.model_validate(parse_toml(text))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise InvalidInput(
                f"recipe, {'.'.join(map(str, first['loc']))}: {first['msg']}", param="recipe"
            ) from None
