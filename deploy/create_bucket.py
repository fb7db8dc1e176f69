"""Make the bucket that `LLMOS_STORE_URL` names and see that it can be written to. Runs once, in the registry's image.

Exit code 0: it is there. 1: it could not be made within a minute; the last line says why.
"""

import asyncio
import os
import sys
import time

from shared.storage.open import open_store

TIMEOUT_S = 60.0
PAUSE_S = 0.5


async def create() -> str | None:
    """Why there is no bucket after `TIMEOUT_S`, or None."""
    store = open_store(
        os.environ["LLMOS_STORE_URL"],
        access_key=os.environ["LLMOS_S3_ACCESS_KEY"],
        secret_key=os.environ["LLMOS_S3_SECRET_KEY"],
    )
    deadline = time.monotonic() + TIMEOUT_S
    while (problem := await store.ready()) is not None and time.monotonic() < deadline:  # noqa: ASYNC110  # a store has no event for it
        await asyncio.sleep(PAUSE_S)
    return problem


if __name__ == "__main__":
    reason = asyncio.run(create())
    sys.exit(f"the bucket can't be used: {reason}" if reason else 0)
