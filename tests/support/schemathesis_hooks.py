"""What schemathesis loads before it sends anything: its requests to a model name one that is there.

Invented names would all be 404, and nothing behind the routing would be tried.
"""

import os

import schemathesis


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return {**body, "model": os.environ["LLMOS_TEST_SCHEMATHESIS_MODEL"]}
    if isinstance(body, dict) and isinstance(body.get("inputs"), list):
        inputs = [{**put, "name": "x"} if isinstance(put, dict) else put for put in body["inputs"]]
        return {**body, "inputs": inputs}
    return body


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if isinstance(path_parameters, dict) and context.operation.path.startswith("/v2/models/"):
        return {**path_parameters, "model": os.environ["LLMOS_TEST_SCHEMATHESIS_TENSORS"]}
    return path_parameters
