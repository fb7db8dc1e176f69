"""The body of a request for a fine-tuning job. Strict: a wrong type is an error, and so is an unknown field."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from shared.contracts import fine_tuning
from shared.contracts.fine_tuning import MAX_METADATA, MetadataKey, MetadataValue
from shared.contracts.manifest import Name
from shared.errors import InvalidInput

MAX_SEED = 2**31 - 1


def _or_auto(kind: str, fits: Callable[[Any], bool], expected: str) -> Any:
    def check(value: Any) -> Any:
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int | float) or not fits(value)):
            msg = f"expected {expected}, or 'auto'"
            raise ValueError(msg)
        return value

    schema = {"anyOf": [{"const": "auto"}, {"type": kind}]}
    return Annotated[Any, AfterValidator(check), WithJsonSchema(schema)]


def _whole(most: int) -> Any:
    return _or_auto(
        "integer", lambda value: isinstance(value, int) and 1 <= value <= most, f"a whole number from 1 to {most}"
    )


def _positive(most: float) -> Any:
    return _or_auto("number", lambda value: 0 < value <= most, f"a number above 0, at most {most:g}")


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hyperparameters(_Body):
    """Of both methods, and of requests in the older form."""

    n_epochs: _whole(1000) = "auto"  # type: ignore[valid-type]  # an annotated Any
    batch_size: _whole(4096) = "auto"  # type: ignore[valid-type]
    learning_rate_multiplier: _positive(1000) = "auto"  # type: ignore[valid-type]


class DpoHyperparameters(Hyperparameters):
    """Of direct preference optimisation."""

    beta: _positive(100) = "auto"  # type: ignore[valid-type]


class Supervised(_Body):
    """Learn answers."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Dpo(_Body):
    """Learn to prefer answers."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class Method(_Body):
    """How to learn, and what it needs to know."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None


class FineTuningRequest(_Body):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model: str = Field(min_length=1, max_length=256)
    training_file: str
    validation_file: str | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older place for those of method supervised."""
    suffix: Name | None = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=MAX_METADATA)
    integrations: list[Any] | None = None

    def check(self) -> None:
        """Raise `InvalidInput` for what LLMOS does not do."""
        if self.integrations:
            raise InvalidInput(
                "integrations are not supported: nothing is reported to wandb; follow the job's events instead",
                param="integrations",
            )
        if self.method is None:
            return
        if self.method.type == "reinforcement":
            raise InvalidInput(
                "the method 'reinforcement' is not supported; use 'supervised' or 'dpo'", param="method.type"
            )
        if self.hyperparameters is not None:
            raise InvalidInput("give hyperparameters in the method only", param="hyperparameters")
        for name in ("supervised", "dpo", "reinforcement"):
            if name != self.method.type and getattr(self.method, name) is not None:
                raise InvalidInput(
                    f"method.{name} has no effect with method.type {self.method.type!r}; remove it",
                    param=f"method.{name}",
                )

    @property
    def learns(self) -> Literal["supervised", "dpo"]:
        """The method."""
        return "dpo" if self.method is not None and self.method.type == "dpo" else "supervised"

    @property
    def chosen(self) -> fine_tuning.Hyperparameters:
        """The hyperparameters, wherever they stand."""
        given: Hyperparameters = self.hyperparameters or Hyperparameters()
        if self.method is not None and self.method.supervised is not None:
            given = self.method.supervised.hyperparameters
        if self.learns == "dpo":
            given = self.method.dpo.hyperparameters if self.method and self.method.dpo else DpoHyperparameters()
        return fine_tuning.Hyperparameters(**given.model_dump())
