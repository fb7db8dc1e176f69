"""Proxies, certificates, addresses and keys of the command line."""

import httpx
import pytest

from llmos.client import Client
from llmos.connection import proxy_for
from llmos.hub import Hub
from llmos.hub_files import HubModel
from shared.addresses import is_loopback, is_nearby
from shared.errors import InvalidInput, Unavailable
from tests.support.fakes.hub_server import HubServer
from tests.support.fakes.proxy import Proxy
from tests.support.nats.server import free_port

REMOTE = "http://llmos.example.test:8000"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy():
    with Proxy(body=b'{"models": []}') as running:
        yield running


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_remote_gateway_is_asked_through_the_proxy(proxy, monkeypatch, variable):
    monkeypatch.setenv(variable, proxy.url)
    with Client(REMOTE, "k") as client:
        assert client.models.list().models == ()
    assert proxy.asked == [f"GET {REMOTE}/llmos/v1/models"]


@pytest.mark.parametrize("no_proxy", ["*", "llmos.example.test", ".example.test", "x,example.test"])
def test_no_proxy_names_hosts_that_are_asked_directly(proxy, monkeypatch, no_proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with Client(REMOTE, "k") as client, pytest.raises(Unavailable, match="nothing answers"):
        client.models.list()
    assert not proxy.asked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("ALL_PROXY", "nonsense://x"),
        ("HTTP_PROXY", "http://[bad"),
        ("NO_PROXY", "[::1],fe80::/10"),
        ("SSL_CERT_FILE", "/nonexistent.pem"),
        ("SSL_CERT_DIR", "/nonexistent"),
        ("SSLKEYLOGFILE", "/nonexistent/keys"),
    ],
)
def test_loopback_is_asked_directly_whatever_the_environment_says(proxy, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with Client(proxy.url, "k") as client:
        assert client.models.list().models == ()
    assert proxy.asked == ["GET /llmos/v1/models"]


@pytest.mark.parametrize(
    ("url", "environment", "says"),
    [
        (REMOTE, {"ALL_PROXY": "socks5://u:secret@127.0.0.1:9"}, "SOCKS proxy .*see ALL_PROXY"),
        (REMOTE, {"HTTP_PROXY": "nonsense://u:secret@x"}, "see HTTP_PROXY"),
        ("https://x.test", {"SSL_CERT_FILE": "/nonexistent.pem"}, "No such file.*see SSL_CERT_FILE"),
        ("https://x.test", {"SSL_CERT_FILE": __file__}, "certificates can't be read.*see SSL_CERT_FILE"),
        ("https://x.test", {"SSLKEYLOGFILE": "/nonexistent/keys"}, "see SSLKEYLOGFILE"),
    ],
)
def test_an_environment_that_can_not_be_used_is_named_without_its_secrets(monkeypatch, url, environment, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=says) as caught:
        Client(url, "k")
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_proxy_of_another_scheme_does_no_harm(proxy, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
    with Client(REMOTE, "k") as client:
        assert client.models.list().models == ()


def test_a_proxy_that_is_away_or_refuses_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with Client("https://x.test", "k") as client, pytest.raises(Unavailable, match=r"no proxy answers .*HTTPS_PROXY"):
        client.models.list()
    with Proxy(407) as refusing:
        monkeypatch.setenv("HTTPS_PROXY", refusing.url)
        with Client("https://x.test", "k") as client, pytest.raises(Unavailable, match=r"proxy .*407.*HTTPS_PROXY"):
            client.models.list()
        assert refusing.asked == ["CONNECT x.test:443"]


def test_the_hub_follows_the_proxy_and_a_mirror_on_loopback_does_not(proxy, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with Hub("http://hub.example.test") as hub, pytest.raises(Unavailable, match="something else than a hub"):
        hub.download(HubModel("org/tiny"), tmp_path / "in", lambda *_: None)
    assert proxy.asked == ["GET http://hub.example.test/api/models/org/tiny/revision/main?blobs=true"]
    (tmp_path / "served").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "served" / name).write_bytes(b"{}")
    with HubServer(tmp_path / "served") as mirror, Hub(mirror.url) as hub:
        hub.download(HubModel("org/tiny"), tmp_path / "in", lambda *_: None)
    assert len(proxy.asked) == 1


def test_the_hub_names_its_variables():
    with pytest.raises(InvalidInput, match="HF_ENDPOINT 'hub'"):
        Hub("hub")
    with pytest.raises(InvalidInput, match="HF_TOKEN is not a key"):
        Hub("http://hub.test", token="é")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:8000",
        "ftp://x",
        "http://",
        "http://[::1",
        "http://x?y",
        "http://x#y",
        "http://\x00",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url):
    with pytest.raises(InvalidInput, match=r"--url .*expected a URL such as"):
        Client(url, "k")


@pytest.mark.parametrize("key", ["é", "a b", "a\nb", "\x00", "\udcff"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(InvalidInput, match="--api-key is not a key"):
        Client("http://127.0.0.1:1", key)


def test_white_space_around_a_key_is_not_part_of_it(proxy):
    with Client(proxy.url, " k\r\n") as client:
        assert client.models.list().models == ()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"<html>\n<b>Sign in</b>\n</html>", 200, "something else than LLMOS"),
        (b"[]", 200, "something else than LLMOS"),
        (b'{"models": 3}', 200, "something else than LLMOS"),
        (b"<html>\n<b>Gateway</b>\n</html>", 502, "HTTP 502: <html> <b>Gateway</b> </html>"),
        (b'{"error": "not found"}', 404, "HTTP 404"),
        (b'{"error": {"message": ["x"]}}', 400, "HTTP 400"),
        (b'{"error": {"message": "no", "code": 7}}', 400, "no"),
        (b"", 302, "sends us on"),
    ],
)
def test_a_server_that_is_not_llmos_is_named(body, status, says):
    with Proxy(status, body) as server, Client(server.url, "k") as client, pytest.raises(Exception, match=says):
        client.models.list()


@pytest.mark.parametrize("body", [b"", b"data: {}\n\n", b"<html></html>", b'data: {"choices": []}'])
def test_a_stream_that_ends_early_is_an_error(body):
    with Proxy(200, body) as server, Client(server.url, "k") as client, pytest.raises(Unavailable, match="ended"):
        list(client.chat("m", []))


def test_numbers_that_json_lacks_are_named():
    with (
        Client("http://127.0.0.1:1", "k") as client,
        pytest.raises(InvalidInput, match="temperature must be a finite"),
    ):
        list(client.chat("m", [], temperature=float("nan")))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback(host):
    assert is_loopback(host)
    assert is_nearby(host)
    assert proxy_for(httpx.URL(f"http://{f'[{host}]' if host == '::1' else host}/")) is None


def test_a_name_without_a_dot_is_nearby_and_others_are_far():
    assert is_nearby("jaeger")
    assert not is_loopback("jaeger")
    for host in ("example.com", "10.0.0.1", "2001:db8::1", "localhost.example.com"):
        assert not is_nearby(host)
