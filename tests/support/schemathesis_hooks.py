"""What schemathesis loads before it sends anything: its requests to a model name one that is there.

Invented names would all be 404, and nothing behind the routing would be tried.
"""

import os

import schemathesis


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return {**body, "model": os.environ["LLMOS_TEST_SCHEMATHESIS_MODEL"]}
    return body
