"""What a change of a deployment changes, line by line."""

from shared.contracts.scheduler import Deployment
from shared.contracts.serving import ReplicaOptions

Line = tuple[str, object, object]
"""Name, before, after."""


def changes(before: Deployment | None, after: Deployment) -> list[Line]:
    """The lines that differ; all, if there was no deployment before."""
    old = {} if before is None else _lines(before)
    new = _lines(after)
    return [(name, old.get(name), value) for name, value in new.items() if before is None or old.get(name) != value]


def _lines(deployment: Deployment) -> dict[str, object]:
    options = {name: getattr(deployment.options, name) for name in ReplicaOptions.model_fields}
    return {
        "version": f"{deployment.model}:{deployment.version}",
        "replicas": deployment.replicas,
        **{name: value for name, value in options.items() if value is not None},
    }
