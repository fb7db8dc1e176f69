"""Wrong requests, and the errors that they get."""

from typing import Any

import httpx
import pytest

from services.gateway.openai.sampling import MAX_CHOICES
from tests.integration.gateway.conftest import MODEL, Stand, chat_body

CHAT = "/v1/chat/completions"


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(answer.headers["x-trace-id"]) == 32
    assert answer.headers["x-request-id"]
    return error


async def test_wrong_bodies_are_400_and_name_the_field(stand: Stand) -> None:
    await stand.deploy()
    cases: list[tuple[object, str | None]] = [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"stop": [1]}, "stop.0"),
        ({"stop": ""}, "stop.0"),
        ({"stream": "yes"}, "stream"),
        ({"model": None}, "model"),
        ({"n": 0}, "n"),
        ({"logprobs": "yes"}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"presence_penalty": 5}, "presence_penalty"),
        ({"prediction": {}}, "prediction"),
        ({"temperatur": 0.5}, "temperatur"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ]
    for changes, param in cases:
        answer = await stand.client.post(CHAT, json=chat_body(**changes))
        assert answer.status_code == 400, (changes, answer.text)
        assert error_of(answer)["param"] == param, (changes, answer.text)
    for content in (b"", b"{", b'{"model": ', b"[1]", b'"x"', b"\xff\xfe", b"[" * 5000):
        answer = await stand.client.post(CHAT, content=content)
        assert answer.status_code == 400, content
        assert error_of(answer)["type"] == "invalid_request_error"


async def test_as_many_answers_as_the_bound_are_made_and_one_more_is_refused_by_name(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    for path, body in ((CHAT, chat_body()), ("/v1/completions", {"model": MODEL, "prompt": "x"})):
        most = await stand.client.post(path, json={**body, "n": MAX_CHOICES, "max_tokens": 1})
        assert most.status_code == 200, most.text
        assert [choice["index"] for choice in most.json()["choices"]] == list(range(MAX_CHOICES))
        replica.received.clear()
        for stream in (False, True):
            answer = await stand.client.post(path, json={**body, "n": MAX_CHOICES + 1, "stream": stream})
            assert answer.status_code == 400
            error = error_of(answer)
            assert (error["param"], error["type"]) == ("n", "invalid_request_error")
            assert str(MAX_CHOICES) in error["message"]
        assert not replica.received


async def test_parameters_without_effect_are_accepted(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    answer = await stand.chat(
        user="me",
        metadata={"a": "b"},
        store=False,
        n=1,
        logprobs=False,
        tools=[],
        tool_choice="none",
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        response_format={"type": "text"},
        repetition_penalty=1.0,
        stream_options=None,
        stop=None,
        seed=-1,
        messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    )
    assert answer.status_code == 200, answer.text


async def test_an_unknown_model_is_404_and_names_those_that_exist(stand: Stand) -> None:
    await stand.deploy()
    for path, body in ((CHAT, chat_body(model="nope")), ("/v1/completions", {"model": "nope", "prompt": "x"})):
        answer = await stand.client.post(path, json=body)
        assert answer.status_code == 404
        error = error_of(answer)
        assert MODEL in error["message"]
        assert (error["param"], error["code"]) == ("model", "model_not_found")
    unknown = await stand.client.get("/v1/models/nope")
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "model_not_found")
    assert "nope" not in (await stand.client.get("/metrics")).text


async def test_unknown_routes_and_methods_are_json_too(stand: Stand) -> None:
    unknown = await stand.client.get("/v1/nothing")
    assert unknown.status_code == 404
    assert "/v1/nothing" in error_of(unknown)["message"]
    wrong = await stand.client.get(CHAT)
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert error_of(wrong)["code"] == "method_not_allowed"


async def test_without_or_with_a_wrong_key_it_is_401(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as nobody:
        for headers in ({}, {"authorization": "Bearer llmos-wrong"}, {"authorization": "Basic abc"}):
            answer = await nobody.post(CHAT, json=chat_body(), headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert error_of(answer)["code"] == "invalid_api_key"
        assert (await nobody.get("/healthz")).json() == {"status": "ok"}
        assert (await nobody.get("/readyz")).json() == {"ready": True, "reasons": []}
        assert (await nobody.get("/metrics")).status_code == 401


async def test_keys_are_made_listed_used_within_their_scope_and_revoked(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    made = (await stand.client.post("/llmos/v1/keys", json={"name": "notebook", "scopes": ["inference"]})).json()
    assert set(made) == {"id", "name", "key", "scopes", "expires_at"}
    listed = (await stand.client.get("/llmos/v1/keys")).json()["keys"]
    assert made["id"] in [key["id"] for key in listed]
    assert made["key"] not in str(listed)
    assert all("hash" not in key for key in listed)
    headers = {"authorization": f"Bearer {made['key']}"}
    async with httpx.AsyncClient(base_url=stand.url, headers=headers) as client:
        assert (await client.post(CHAT, json=chat_body())).status_code == 200
        refused = await client.get("/llmos/v1/nodes")
        assert refused.status_code == 403
        assert "'read' or 'admin'" in error_of(refused)["message"]
        assert (await stand.client.delete(f"/llmos/v1/keys/{made['id']}")).json()["revoked"] is True
        assert (await client.post(CHAT, json=chat_body())).status_code == 401
    assert (await stand.client.delete("/llmos/v1/keys/key-nope")).status_code == 404


async def test_a_reader_looks_and_changes_nothing(stand: Stand) -> None:
    made = (await stand.client.post("/llmos/v1/keys", json={"name": "prometheus", "scopes": ["read"]})).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    async with httpx.AsyncClient(base_url=stand.url, headers=headers) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.post("/llmos/v1/keys", json={"name": "x"})).status_code == 403
        assert (await client.post(CHAT, json=chat_body())).status_code == 403


@pytest.mark.parametrize("gateway_settings", [{"auth": "off"}])
async def test_with_authentication_off_nobody_is_asked(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as nobody:
        assert (await nobody.get("/llmos/v1/keys")).status_code == 200


async def test_metrics_show_requests_and_the_replicas_batches(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    await stand.chat()
    await stand.client.get("/v1/nothing")
    text = (await stand.client.get("/metrics")).text
    assert (
        'llmos_http_requests_total{method="POST",model="sample",route="/v1/chat/completions",status="200"} 1.0'
        in text
    )
    assert 'llmos_http_requests_total{method="GET",model="",route="unmatched",status="404"} 1.0' in text
    assert 'llmos_replica_max_batch{model="sample",replica="sample-1-a"} 3.0' in text
    assert 'llmos_replica_mean_batch{model="sample",replica="sample-1-a"} 1.5' in text
    assert 'llmos_time_to_first_token_seconds_count{model="sample"} 1.0' in text
    assert 'llmos_inter_token_seconds_count{model="sample"} 5.0' in text
    assert 'llmos_tokens_total{model="sample",type="output"} 6.0' in text
    assert "llmos_http_requests_in_flight 1.0" in text
    assert 'llmos_deployment_replicas_desired{model="sample"} 1.0' in text
    assert 'llmos_deployment_replicas_ready{model="sample"} 1.0' in text
    assert 'llmos_replica_restarts_total{model="sample",replica="sample-1-a"} 0.0' in text
    assert "llmos_bus_round_trip_seconds " in text
    assert "llmos_monitor_up 0.0" in text
    assert "llmos_key_" not in text


async def test_errors_are_counted_by_model_and_code_and_no_name_of_a_client_is_a_label(stand: Stand) -> None:
    await stand.deploy()
    body = {**chat_body(), "model": "invented"}
    assert (await stand.client.post(CHAT, json=body)).status_code == 404
    assert (await stand.client.post(CHAT, json={**chat_body(), "model": "sample"})).status_code == 503
    text = (await stand.client.get("/metrics")).text
    route = 'route="/v1/chat/completions"'
    assert f'llmos_request_errors_total{{code="model_not_found",model="",{route}}} 1.0' in text
    assert f'llmos_request_errors_total{{code="unavailable",model="sample",{route}}} 1.0' in text
    assert f'llmos_http_request_duration_seconds_count{{model="sample",{route}}} 1.0' in text
    assert "invented" not in text


@pytest.mark.parametrize("gateway_settings", [{"metrics_by_key": True}])
async def test_requests_and_tokens_are_counted_by_key_where_it_is_asked_for(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    await stand.chat()
    await stand.client.post(CHAT, json={**chat_body(), "model": "invented"})
    (key,) = (one["id"] for one in (await stand.client.get("/llmos/v1/keys")).json()["keys"])
    text = (await stand.client.get("/metrics")).text
    assert f'llmos_key_requests_total{{key="{key}",model="sample",status="200"}} 1.0' in text
    assert f'llmos_key_requests_total{{key="{key}",model="",status="404"}} 1.0' in text
    assert f'llmos_key_tokens_total{{key="{key}",model="sample",type="output"}} 6.0' in text
