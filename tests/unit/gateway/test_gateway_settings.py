"""What a person sets of the gateway, and what is said of wrong values."""

import pytest

from services.gateway.settings import Settings
from shared.errors import InvalidInput
from shared.service.settings import load_settings


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("https://a.example.com", ("https://a.example.com",)),
        (
            " http://localhost:3000 , http://[::1]:8080,tauri://localhost,null,",
            ("http://localhost:3000", "http://[::1]:8080", "tauri://localhost", "null"),
        ),
    ],
)
def test_origins_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, given: str, origins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LLMOS_GATEWAY_CORS_ORIGINS", given)
    assert load_settings(Settings).allowed_origins == origins


@pytest.mark.parametrize("given", ["a.example.com", "https://a.example.com/", "https://a b", "['https://a']"])
def test_what_is_no_origin_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("LLMOS_GATEWAY_CORS_ORIGINS", given)
    with pytest.raises(InvalidInput, match=r"LLMOS_GATEWAY_CORS_ORIGINS=.*is no origin.*https://a\.example\.com"):
        load_settings(Settings)


@pytest.mark.parametrize("given", ["0", "-1", "soon", "inf"])
def test_an_idle_connection_stays_open_for_some_seconds(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("LLMOS_GATEWAY_KEEP_ALIVE", given)
    with pytest.raises(InvalidInput, match="LLMOS_GATEWAY_KEEP_ALIVE"):
        load_settings(Settings)
