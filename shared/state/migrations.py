"""Documents of earlier formats become documents of this one. Pure.

A migration takes the control state of the format that is its key to the next one. `prepare` applies them to a bus,
`restore` to snapshots and backups. A change of a record that an older program could not read is a new format.
"""

from collections.abc import Callable, Mapping

from pydantic import JsonValue

from shared.contracts.scheduler import DEPLOYMENTS_BUCKET
from shared.contracts.state import FORMAT, ControlState

Migration = Callable[[ControlState], ControlState]


def migrate(state: ControlState, migrations: Mapping[int, Migration] | None = None, to: int = FORMAT) -> ControlState:
    """`state` in format `to`; itself where it has that already."""
    steps = MIGRATIONS if migrations is None else migrations
    for number in range(state.format, to):
        state = steps[number](state).model_copy(update={"format": number + 1})
    return state


def changed_values(
    state: ControlState, bucket: str, change: Callable[[dict[str, JsonValue]], dict[str, JsonValue]]
) -> ControlState:
    """`state` with `change` applied to each record of one bucket."""
    old = state.buckets.get(bucket)
    if old is None:
        return state
    records = tuple(
        record.model_copy(update={"value": change(record.value)}) if isinstance(record.value, dict) else record
        for record in old.records
    )
    return state.model_copy(
        update={"buckets": {**state.buckets, bucket: old.model_copy(update={"records": records})}}
    )


def _to_1(state: ControlState) -> ControlState:
    """The revision of a deployment was called `generation` at first."""

    def renamed(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if "generation" not in value:
            return value
        return {"revision" if name == "generation" else name: content for name, content in value.items()}

    return changed_values(state, DEPLOYMENTS_BUCKET, renamed)


MIGRATIONS: dict[int, Migration] = {0: _to_1}
