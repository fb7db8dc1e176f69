"""The Open Inference Protocol over HTTP and gRPC, through a real gateway, from real replicas of small graphs."""

import asyncio
import base64
import json

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from devtools.convert.encoder.version import convert_encoder
from services.gateway.open_inference.rpc import open_inference_pb2 as messages
from shared.tensors import pack
from tests.integration.gateway.conftest import ADMIN_KEY
from tests.integration.gateway.open_inference.conftest import Version
from tests.support.harness.wait import eventually
from tests.support.models.small_encoder import HIDDEN, write_small_encoder
from tests.support.models.tensor_graphs import linear

X = np.array([[1, 2, 3, 4], [0, -1, 0, 1]], np.float32)
SERVICE = "/inference.GRPCInferenceService/"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def minibert(folder):
    return Version(folder, "minibert", lambda to: convert_encoder(write_small_encoder(folder / "minibert"), to))


@pytest.fixture(scope="module")
def mood(folder):
    source = write_small_encoder(folder / "mood", labels=("bad", "good", "mixed"))
    return Version(folder, "mood", lambda to: convert_encoder(source, to))


class Rpc:
    """A client on gRPC's own terms: the messages, and what is sent beside them."""

    def __init__(self, channel) -> None:
        self.channel = channel

    async def __call__(self, method, *, key=ADMIN_KEY, timeout=20, **fields):
        request, response = getattr(messages, f"{method}Request"), getattr(messages, f"{method}Response")
        call = self.channel.unary_unary(
            SERVICE + method, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        return await call(request(**fields), metadata=metadata, timeout=timeout)

    async def infer(self, model, inputs, raw=(), **fields):
        tensors = [messages.ModelInferRequest.InferInputTensor(**each) for each in inputs]
        return await self("ModelInfer", model_name=model, inputs=tensors, raw_input_contents=raw, **fields)


@pytest.fixture
async def rpc(stand, gateway_settings):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway_settings['grpc_port']}", options) as channel:
        yield Rpc(channel)


async def infer(stand, model, inputs, **body):
    return await stand.client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **body})


def fp32(x, **more):
    return {"name": "x", "datatype": "FP32", "shape": list(x.shape), **more}


async def fails(awaitable, code, part):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    assert (caught.value.code(), part in caught.value.details()) == (code, True), caught.value
    return caught.value


def raw_outputs(response, types):
    found = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        found[output.name] = np.frombuffer(raw, types[output.name]).reshape(list(output.shape))
    return found


async def test_a_graph_over_http(stand, serve, iris, spans):
    await serve(iris)
    server = await stand.client.get("/v2")
    assert (server.json()["name"], server.json()["extensions"]) == ("llmos", ["binary_tensor_data"])
    for path, key in (("live", "live"), ("ready", "ready")):
        response = await stand.client.get(f"/v2/health/{path}", headers={"authorization": ""})
        assert (response.status_code, response.json()) == (200, {key: True})
    model = (await stand.client.get("/v2/models/iris")).json()
    assert model == {
        "name": "iris",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "best", "datatype": "INT64", "shape": [-1]},
        ],
    }
    assert (await stand.client.get("/v2/models/iris/versions/1")).json() == model
    spans.clear()
    response = await infer(stand, "iris", [fp32(X, data=X.tolist())], id="mine")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("iris", "1", "mine")
    y, best = answer["outputs"]
    assert (y["name"], y["datatype"], y["shape"]) == ("y", "FP32", [2, 3])
    np.testing.assert_allclose(np.reshape(y["data"], (2, 3)), linear(X), rtol=1e-6)
    assert best["data"] == linear(X).argmax(axis=1).tolist()
    named = {span.name: span for span in spans.get_finished_spans()}
    asked, root = named["infer iris"], named["POST /v2/models/{model}/infer"]
    assert asked.parent.span_id == root.context.span_id
    assert (asked.attributes["llmos.deployment"], asked.attributes["llmos.model.version"]) == ("iris", 1)
    flat = await infer(stand, "iris", [fp32(X, data=X.ravel().tolist())], outputs=[{"name": "best"}])
    assert [output["name"] for output in flat.json()["outputs"]] == ["best"]

    head = {"inputs": [fp32(X, parameters={"binary_data_size": X.nbytes})], "outputs": [
        {"name": "y", "parameters": {"binary_data": True}}, {"name": "best"}
    ]}  # fmt: skip
    text = json.dumps(head).encode()
    response = await stand.client.post(
        "/v2/models/iris/versions/1/infer",
        content=text + X.tobytes(),
        headers={LENGTH: str(len(text)), "content-type": "application/octet-stream"},
    )
    assert response.status_code == 200, response.text
    length = int(response.headers[LENGTH])
    outputs = json.loads(response.content[:length])["outputs"]
    assert outputs[0]["parameters"] == {"binary_data_size": 24}
    np.testing.assert_allclose(np.frombuffer(response.content[length:], "<f4").reshape(2, 3), linear(X), rtol=1e-6)
    metrics = (await stand.client.get("/metrics")).text
    assert (
        'llmos_http_requests_total{method="POST",model="iris",route="/v2/models/{model}/infer",status="200"} 2'
        in metrics
    )
    await what_is_wrong_is_said(stand)


async def what_is_wrong_is_said(stand):
    good = fp32(X, data=X.tolist())
    for inputs, status, part in (
        ([], 400, "inputs is empty"),
        ([fp32(X, data=X.tolist()) | {"name": "z"}], 400, "no input 'z'; it takes x (FP32 [any, 4])"),
        ([good, good], 400, "'x' is given twice"),
        ([fp32(X, data=X.tolist()) | {"datatype": "FP64"}], 400, "expected FP32 [any, 4], got FP64 [2, 4]"),
        ([fp32(X[:, :3], data=X[:, :3].tolist())], 400, "expected FP32 [any, 4], got FP32 [2, 3]"),
        ([fp32(X, data=X.tolist()) | {"shape": [8]}], 400, "nested in another way than FP32 [8]"),
        ([fp32(X, data=X.ravel().tolist()) | {"shape": [8]}], 400, "expected FP32 [any, 4], got FP32 [8]"),
        ([fp32(X, data=X.ravel().tolist()) | {"shape": [-2, 4]}], 400, "lengths of 0 or more"),
        ([fp32(X, data=[1, 2])], 400, "'x' has 2 elements; FP32 [2, 4] has 8"),
        ([fp32(X, data=[[1, 2, 3, "4"]] * 2)], 400, "an element of the type str; those of FP32 are numbers"),
        ([fp32(X, data=[[1, 2, 3, 1e39]] * 2)], 400, "too large for FP32"),
        ([fp32(X)], 400, "'x' has neither of data and the parameter binary_data_size"),
        ([fp32(X, parameters={"binary_data_size": 32})], 400, "behind the JSON 0 bytes are left"),
        ([fp32(X, data=X.tolist(), parameters={"shared_memory_region": "r"})], 400, "is not supported"),
        ([fp32(X, data=X.tolist(), parameters={"sharde": 1})], 400, "unrecognized"),
        ([fp32(X, data=X.tolist(), extra=1)], 400, "unrecognized request argument: inputs.0.extra"),
        ([{"name": "x"}], 400, "inputs.0.datatype is required"),
        ([fp32(X, data=[0]) | {"shape": [1 << 40, 1 << 40]}], 413, "at most 64 MiB"),
    ):
        response = await infer(stand, "iris", inputs)
        assert response.status_code == status, (inputs, response.text)
        assert list(response.json()) == ["error"]
        assert part in response.json()["error"], response.text
    for path, status, part in (
        ("/v2/models/nobody", 404, "models: iris"),
        ("/v2/models/nobody/ready", 404, "models: iris"),
        ("/v2/models/iris/versions/7", 404, "no version '7'; it has 1"),
        ("/v2/models/iris/versions/x/ready", 404, "no version 'x'"),
    ):
        response = await stand.client.get(path)
        assert (response.status_code, part in response.json()["error"]) == (status, True), response.text
    unknown = await infer(stand, "iris", [good], outputs=[{"name": "z"}])
    assert (unknown.status_code, "no output 'z'; it gives y" in unknown.json()["error"]) == (400, True)
    wrong_key = await stand.client.get("/v2/models/iris", headers={"authorization": "Bearer llmos-x"})
    assert (wrong_key.status_code, list(wrong_key.json())) == (401, ["error"])
    for length, body, status in (
        ("9", b"{}", 400),
        ("x", b"{}", 400),
        ("2", b"{}more", 400),
        (str(1 << 30), b"{}", 413),
    ):
        response = await stand.client.post("/v2/models/iris/infer", content=body, headers={LENGTH: length})
        assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    chat = await stand.client.post(
        "/v1/chat/completions", json={"model": "iris", "messages": [{"role": "user", "content": "hi"}]}
    )
    assert "/v2/models/iris/infer" in chat.json()["error"]["message"]


async def test_a_graph_over_grpc(stand, serve, iris, rpc, spans):
    await serve(iris)
    assert (await rpc("ServerLive", key=None)).live
    assert (await rpc("ServerReady", key=None)).ready
    server = await rpc("ServerMetadata")
    assert (server.name, list(server.extensions)) == ("llmos", ["binary_tensor_data"])
    assert (await rpc("ModelReady", name="iris")).ready
    assert (await rpc("ModelReady", name="iris", version="1")).ready
    model = await rpc("ModelMetadata", name="iris")
    assert (model.name, list(model.versions)) == ("iris", ["1"])
    assert [(put.name, put.datatype, list(put.shape)) for put in (*model.inputs, *model.outputs)] == [
        ("x", "FP32", [-1, 4]),
        ("y", "FP32", [-1, 3]),
        ("best", "INT64", [-1]),
    ]
    spans.clear()
    for inputs, raw in (
        ([fp32(X)], [X.tobytes()]),
        ([fp32(X, contents={"fp32_contents": X.ravel().tolist()})], []),
    ):
        response = await rpc.infer("iris", inputs, raw, id="mine")
        assert (response.model_name, response.model_version, response.id) == ("iris", "1", "mine")
        outputs = raw_outputs(response, {"y": "<f4", "best": "<i8"})
        np.testing.assert_allclose(outputs["y"], linear(X), rtol=1e-6)
        assert outputs["best"].tolist() == linear(X).argmax(axis=1).tolist()
    named = {span.name: span for span in spans.get_finished_spans()}
    assert named["infer iris"].parent.span_id == named[SERVICE + "ModelInfer"].context.span_id
    await health_and_reflection(rpc)
    await what_is_wrong_has_a_status(rpc)
    metrics = (await stand.client.get("/metrics")).text
    assert f'model="iris",route="{SERVICE}ModelInfer",status="200"}} 2' in metrics
    assert 'code="invalid_api_key"' in metrics
    assert 'route="unmatched"' in metrics
    assert "ServerReflectionInfo" not in metrics, "a stranger could make any number of series"


async def health_and_reflection(rpc):
    check = rpc.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    for service in ("", "inference.GRPCInferenceService"):
        found = await check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
    reflect = rpc.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    await fails(_all(reflect(iter([asked]), timeout=10)), grpc.StatusCode.UNAUTHENTICATED, "no API key given")
    listed = await _all(reflect(iter([asked]), timeout=10, metadata=(("x-api-key", ADMIN_KEY),)))
    services = {each.name for each in listed[0].list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services


async def _all(stream):
    return [response async for response in stream]


async def what_is_wrong_has_a_status(rpc):
    status = grpc.StatusCode
    wrong = status.INVALID_ARGUMENT
    floats = {"fp32_contents": X.ravel().tolist()}
    for inputs, raw, part in (
        ([], [], "there are 0 inputs"),
        ([fp32(X)], [], "'x' has 0 elements; FP32 [2, 4] has 8"),
        ([fp32(X)], [X.tobytes(), b""], "raw_input_contents has 2 entries for 1 inputs"),
        ([fp32(X)], [X.tobytes()[:-1]], "'x' has 31 bytes; FP32 [2, 4] has 32"),
        ([fp32(X, contents=floats)], [X.tobytes()], "in fp32_contents and in raw_input_contents"),
        ([fp32(X, contents={"int_contents": [1] * 8})], [], "those of FP32 belong into fp32_contents"),
        (
            [fp32(X) | {"datatype": "INT8", "contents": {"int_contents": [1] * 7 + [200]}}],
            [],
            "200, which is no INT8",
        ),
        ([fp32(X) | {"datatype": "FP16", "contents": floats}], [], "FP16 has no typed contents"),
        ([fp32(X) | {"datatype": "FP8", "contents": floats}], [], "the datatype 'FP8'; known are"),
        ([fp32(X) | {"datatype": "FP64"}], [X.astype("<f8").tobytes()], "expected FP32 [any, 4], got FP64 [2, 4]"),
        ([fp32(X) | {"shape": [-2, 4]}], [X.tobytes()], "expected FP32 [any, 4], got FP32 [-2, 4]"),
        ([fp32(X) | {"shape": [8]}], [X.tobytes()], "got FP32 [8]"),
        ([fp32(X) | {"name": "z"}], [X.tobytes()], "no input 'z'"),
        ([fp32(X), fp32(X)], [X.tobytes()] * 2, "given twice"),
        ([fp32(X, parameters={"shared_memory_region": {"string_param": "r"}})], [X.tobytes()], "not supported"),
    ):
        await fails(rpc.infer("iris", inputs, raw), wrong, part)
    await fails(rpc.infer("iris", [fp32(X)], [X.tobytes()], outputs=[{"name": "z"}]), wrong, "no output 'z'")
    await fails(rpc("ModelMetadata", name="nobody"), status.NOT_FOUND, "models: iris")
    await fails(rpc("ModelReady", name="iris", version="7"), status.NOT_FOUND, "no version '7'")
    await fails(rpc.infer("iris", [fp32(X)], [X.tobytes()], model_version="2"), status.NOT_FOUND, "it has 1")
    await fails(rpc("ModelReady", key=None, name="iris"), status.UNAUTHENTICATED, "no API key given")
    await fails(rpc.infer("iris", [fp32(X)], [X.tobytes()], key="llmos-x"), status.UNAUTHENTICATED, "not known here")
    large = fp32(X) | {"shape": [1 << 40, 4], "contents": floats}
    await fails(rpc.infer("iris", [large]), status.RESOURCE_EXHAUSTED, "at most 64 MiB")
    many = fp32(X) | {"shape": [5 << 18, 4], "contents": {"fp32_contents": [0.0] * (5 << 20)}}
    await fails(rpc.infer("iris", [many]), status.RESOURCE_EXHAUSTED, "send tensors there, and not in contents")
    texts = {"name": "x", "datatype": "BYTES", "shape": [1 << 21]}
    await fails(rpc.infer("iris", [texts]), status.RESOURCE_EXHAUSTED, "elements of BYTES; at most 1048576")
    await fails(rpc.infer("iris", [fp32(X)], [b"\0" * (65 << 20)]), status.RESOURCE_EXHAUSTED, "larger than max")
    broken = rpc.channel.unary_unary(SERVICE + "ModelInfer")
    metadata = (("authorization", f"Bearer {ADMIN_KEY}"),)
    await fails(
        broken(b"\xff\xff", metadata=metadata), wrong, "no request of /inference.GRPCInferenceService/ModelInfer"
    )
    await fails(broken(b"\xff" * (32 << 20)), status.UNAUTHENTICATED, "no API key given")
    unknown = rpc.channel.unary_unary(SERVICE + "RepositoryIndex")
    await fails(unknown(b"", metadata=metadata), status.UNIMPLEMENTED, "")


async def test_refused_calls_are_events_as_refused_requests_are(stand, rpc):
    await fails(rpc("ModelReady", key="llmos-x", name="iris"), grpc.StatusCode.UNAUTHENTICATED, "not known here")

    async def recorded() -> bool:
        answer = await stand.client.get("/llmos/v1/events", params={"kind": "login.refused", "limit": 1})
        return [event["detail"]["addresses"] for event in answer.json()["events"]] == ["127.0.0.1: 1"]

    await eventually(recorded, timeout=25)


async def test_a_key_without_the_scope_for_inference_only_looks(stand, serve, iris, rpc):
    await serve(iris)
    made = await stand.client.post("/llmos/v1/keys", json={"name": "looks", "scopes": ["read"]})
    key = made.json()["key"]
    assert (await rpc("ModelMetadata", key=key, name="iris")).name == "iris"
    error = await fails(
        rpc.infer("iris", [fp32(X)], [X.tobytes()], key=key), grpc.StatusCode.PERMISSION_DENIED, "'inference'"
    )
    assert "x-trace-id" in dict(error.initial_metadata())
    headers = {"authorization": f"Bearer {key}"}
    assert (await stand.client.get("/v2/models/iris", headers=headers)).status_code == 200
    response = await stand.client.post("/v2/models/iris/infer", json={"inputs": []}, headers=headers)
    assert response.status_code == 403


async def test_texts_and_what_a_graph_does_not_take(stand, serve, greeter, rpc):
    await serve(greeter)
    names = {"name": "name", "datatype": "BYTES", "shape": [2], "data": ["zoë", "bob"]}
    ids = {"name": "id", "datatype": "INT64", "shape": [2, 1], "data": [[4], [0]]}
    response = await infer(stand, "greeter", [ids, names])
    greeting, row = response.json()["outputs"]
    assert greeting["data"] == ["grüezi zoë", "who?"]
    assert row["data"] == [8, 9, 0, 1]
    raw = [pack(["zoë".encode(), b"bob"]), np.array([4, 0], "<i8").tobytes()]
    tensors = [{key: put[key] for key in ("name", "datatype", "shape")} for put in (names, ids)]
    answer = await rpc.infer("greeter", tensors, raw)
    assert answer.raw_output_contents[0] == pack(["grüezi zoë".encode(), b"who?"])
    wrong = grpc.StatusCode.INVALID_ARGUMENT
    await fails(rpc.infer("greeter", tensors, [raw[0][:-1], raw[1]]), wrong, "element 1 is cut off")
    await fails(rpc.infer("greeter", tensors, [pack([b"\xff", b""]), raw[1]]), wrong, "element 0 is no text")
    await fails(
        rpc.infer("greeter", tensors[:1], raw[:1]), wrong, "the input 'id' is missing: expected INT64 [any, 1]"
    )
    three = [tensors[0], tensors[1] | {"shape": [3, 1]}]
    await fails(rpc.infer("greeter", three, [raw[0], b"\0" * 24]), wrong, "'id' has 3 rows and 'name' has 2")
    bad = ids | {"data": [[4], [5]]}
    good, refused = await asyncio.gather(infer(stand, "greeter", [ids, names]), infer(stand, "greeter", [bad, names]))
    assert good.status_code == 200
    assert (refused.status_code, "out of data bounds" in refused.json()["error"]) == (400, True)
    for _ in range(4):  # the graph is not broken by them
        assert (await infer(stand, "greeter", [bad, names])).status_code == 400
    assert (await infer(stand, "greeter", [ids, names])).status_code == 200


async def test_requests_of_several_clients_are_computed_together(stand, serve, iris):
    await serve(iris, max_batch=64, max_delay_ms=200.0)
    rows = [np.full((1 + index % 3, 4), index, np.float32) for index in range(20)]
    responses = await asyncio.gather(*(infer(stand, "iris", [fp32(x, data=x.tolist())]) for x in rows))
    for x, response in zip(rows, responses, strict=True):
        y = response.json()["outputs"][0]
        np.testing.assert_allclose(np.reshape(y["data"], y["shape"]), linear(x), rtol=1e-5)

    async def batched() -> bool:
        text = (await stand.client.get("/metrics")).text
        line = next(line for line in text.splitlines() if line.startswith('llmos_replica_max_batch{model="iris"'))
        return float(line.rsplit(" ", 1)[1]) >= 10

    await eventually(batched)


async def test_large_tensors_cross_the_bus_and_larger_ones_are_refused(stand, serve, echo, rpc):
    await serve(echo)
    x = np.random.default_rng(0).normal(size=(15, 1 << 20)).astype(np.float32)  # 60 MiB
    response = await rpc.infer("echo", [fp32(x)], [x.tobytes()])
    assert response.raw_output_contents[0] == x.tobytes()
    head = json.dumps({"inputs": [fp32(x, parameters={"binary_data_size": x.nbytes})],
                       "parameters": {"binary_data_output": True}}).encode()  # fmt: skip
    response = await stand.client.post(
        "/v2/models/echo/infer", content=head + x.tobytes(), headers={LENGTH: str(len(head))}
    )
    assert response.status_code == 200, response.text[:500]
    assert response.content[int(response.headers[LENGTH]) :] == x.tobytes()
    body = {"inputs": [fp32(x, parameters={"binary_data_size": x.nbytes})]}
    text = json.dumps(body).encode()
    in_json = await stand.client.post(
        "/v2/models/echo/infer", content=text + x.tobytes(), headers={LENGTH: str(len(text))}
    )
    assert (in_json.status_code, "binary_data" in in_json.json()["error"]) == (413, True)
    too_large = await stand.client.post(
        "/v2/models/echo/infer", content=head + b"\0" * (64 << 20), headers={LENGTH: str(len(head))}
    )
    assert (too_large.status_code, "64 MiB" in too_large.json()["error"]) == (413, True)
    nan = np.array([[np.nan, np.inf]], np.float32)
    text = json.dumps({"inputs": [fp32(nan, parameters={"binary_data_size": 8})]}).encode()
    lacks = await stand.client.post(
        "/v2/models/echo/infer", content=text + nan.tobytes(), headers={LENGTH: str(len(text))}
    )
    assert (lacks.status_code, "NaN" in lacks.json()["error"]) == (400, True)


async def test_encoders_are_models_too(stand, serve, minibert, mood, rpc):
    await serve(minibert)
    await serve(mood)
    text = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["the fox", "river bank"]}
    model = (await stand.client.get("/v2/models/minibert")).json()
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, HIDDEN]}]
    response = await infer(stand, "minibert", [text])
    assert response.status_code == 200, response.text
    known = await stand.client.post("/v1/embeddings", json={"model": "minibert", "input": text["data"]})
    expected = [entry["embedding"] for entry in known.json()["data"]]
    output = response.json()["outputs"][0]
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), expected, atol=1e-6)
    assert response.json()["model_version"] == "1"

    classified = await infer(stand, "mood", [text | {"shape": [2, 1]}])
    scores, label = classified.json()["outputs"]
    same = await stand.client.post("/v1/classify", json={"model": "mood", "input": text["data"]})
    np.testing.assert_allclose(
        np.reshape(scores["data"], (2, 3)), [e["probs"] for e in same.json()["data"]], atol=1e-6
    )
    assert label["data"] == [entry["label"] for entry in same.json()["data"]]
    answer = await rpc.infer(
        "mood",
        [{"name": "text", "datatype": "BYTES", "shape": [1]}],
        [pack([b"the fox"])],
        outputs=[{"name": "label"}],
    )
    assert answer.raw_output_contents == [pack([label["data"][0].encode()])]
    for wrong, part in (
        (text | {"name": "x"}, "no input 'x'; it takes text (BYTES [any])"),
        (text | {"shape": [1]}, "has 2 elements; BYTES [1] has 1"),
        (text | {"datatype": "FP32", "data": [1, 2]}, "expected BYTES [1 to 2048], got FP32 [2]"),
        (text | {"data": ["the " * 40, "a"]}, "tokens"),
    ):
        response = await infer(stand, "mood", [wrong])
        assert (response.status_code, part in response.json()["error"]) == (400, True), response.text


async def test_a_deployment_that_has_no_replica_is_not_ready(stand, rpc):
    await stand.deploy("sample")
    response = await stand.client.get("/v2/models/sample/ready")
    assert (response.status_code, "retry-after" in response.headers) == (503, True)
    assert "no replica" in response.json()["error"]
    assert not (await rpc("ModelReady", name="sample")).ready
    await stand.replica()
    assert (await stand.client.get("/v2/models/sample/ready")).status_code == 200
    response = await infer(stand, "sample", [fp32(X, data=X.tolist())])
    assert (response.status_code, "/v1/chat/completions" in response.json()["error"]) == (400, True)


async def test_a_client_that_leaves_and_one_whose_time_is_over_leave_nothing_behind(stand, serve, iris, rpc):
    await serve(iris, max_batch=64, max_delay_ms=1000.0)
    await fails(rpc.infer("iris", [fp32(X)], [X.tobytes()], timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED, "")

    async def cancelled() -> bool:
        text = (await stand.client.get("/metrics")).text
        return 'llmos_replica_cancelled_total{model="iris"' in text and any(
            line.startswith('llmos_replica_cancelled_total{model="iris"') and float(line.rsplit(" ", 1)[1]) >= 1
            for line in text.splitlines()
        )

    await eventually(cancelled)
    assert base64.b64encode((await rpc.infer("iris", [fp32(X)], [X.tobytes()])).raw_output_contents[0])
