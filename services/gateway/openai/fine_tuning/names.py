"""The name of a result: of the model, of its deployment, and of the dataset that it learnt from. Pure.

It is the suffix, where nothing has that name. Otherwise the end of the job's id is added, because a fine-tuned model
never takes the place of another. Without a suffix it is `ft-<base>-<end of the id>`.
"""

from shared.contracts.manifest import NAME_LENGTH

JOB_PREFIX = "ftjob-"


def own_name(base: str, suffix: str | None, token: str) -> str:
    """A name that only this job has.

    Args:
        base: The model that it starts from.
        suffix: That was asked for.
        token: The end of the job's id.
    """
    stem = suffix if suffix is not None else f"ft-{base}"
    return f"{stem[: NAME_LENGTH - len(token) - 1].rstrip('._-')}-{token}"
