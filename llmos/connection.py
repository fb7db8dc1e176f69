"""How the command line connects: addresses, keys, proxies and certificates, each checked before its first use.

Loopback is never asked through a proxy. For other hosts HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY count as curl
reads them: only the proxy for the address's own scheme is used, and one that can't be used does no harm elsewhere.
"""

import os
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from shared.addresses import is_loopback
from shared.errors import InvalidInput, Unavailable

_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def http_client(
    url: str, *, key: str = "", timeout: httpx.Timeout, follow_redirects: bool = False, named: str, key_named: str
) -> httpx.Client:
    """A client of the server at `url`.

    Args:
        url: Its base.
        key: Sent as `Authorization: Bearer`; none if empty.
        timeout: Of each request.
        follow_redirects: Whether to go where the server points.
        named: What `url` was given as, for messages: an option or a variable.
        key_named: What `key` was given as.

    Raises:
        InvalidInput: `url` or `key` can't be used, or the proxy or the certificates that the environment names.
    """
    base = parsed_url(url, named)
    secure = base.scheme == "https" or follow_redirects
    try:
        return httpx.Client(
            base_url=base,
            timeout=timeout,
            headers=authorization(key, key_named),
            follow_redirects=follow_redirects,
            verify=_certificates() if secure else False,
            proxy=proxy_for(base),
            trust_env=False,
        )
    except ImportError as error:  # httpx asks for the package when it sees the proxy's scheme
        raise _wrong_proxy("a SOCKS proxy needs another package: pip install 'httpx[socks]'") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise _wrong_proxy(str(error)) from error


def parsed_url(url: str, named: str) -> httpx.URL:
    """The base URL; raises `InvalidInput` unless it is one of HTTP with a host."""
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in {"http", "https"} and parsed.host and not parsed.query and not parsed.fragment
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise InvalidInput(f"{named} {url!r}: expected a URL such as http://127.0.0.1:8000", param="url")
    return parsed


def authorization(key: str, named: str) -> dict[str, str]:
    """The header for a key; raises `InvalidInput` for one that no header can carry."""
    key = key.strip()
    if not all("!" <= character <= "~" for character in key):
        raise InvalidInput(
            f"{named} is not a key: expected printable ASCII characters without spaces", param="api_key"
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment names for `url`, or None."""
    if is_loopback(url.host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    where = url.host if url.port is None else f"{url.host}:{url.port}"
    if not proxy or urllib.request.proxy_bypass(where):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@contextmanager
def connecting(url: str) -> Iterator[None]:
    """Raises what goes wrong on the way to `url` as `Unavailable`."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise Unavailable(f"{url} did not answer in time") from error
    except httpx.ProxyError as error:
        raise Unavailable(f"the proxy on the way to {url} says: {error}; see {_set(_PROXY_VARIABLES)}") from error
    except httpx.ConnectError as error:
        if "certificate" in str(error).lower() or "ssl" in str(error).lower():
            raise Unavailable(f"{url} can't be trusted or speaks no TLS: {error}") from error
        if proxy_for(httpx.URL(url)):
            raise Unavailable(f"no proxy answers on the way to {url}; see {_set(_PROXY_VARIABLES)}") from error
        raise Unavailable(f"nothing answers at {url}; start LLMOS with 'llmos up', or give --url") from error
    except httpx.TransportError as error:
        raise Unavailable(f"the connection to {url} broke: {error}") from error


def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(
            f"the certificates can't be read: {why}; see {_set(_CERTIFICATE_VARIABLES)}", param="url"
        ) from error


def _wrong_proxy(why: str) -> InvalidInput:
    return InvalidInput(
        f"the proxy of the environment can't be used: {why}; see {_set(_PROXY_VARIABLES)}, or name the host in"
        " NO_PROXY",
        param="url",
    )


def _set(names: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> str:
    """The variables of these that are set; without values, because a proxy's may have a password."""
    found = [name for name in environment if name.upper() in names and environment[name]]
    return ", ".join(sorted(found)) or "the system's settings"
