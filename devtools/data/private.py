"""Personal data by rules: what has a form, and where there is one, a checksum. Names of persons have neither.

| kind | rule |
|---|---|
| `email` | local part, domain, a top-level domain of letters |
| `phone` | a valid number by `phonenumbers`: international, or national of the given regions |
| `iban` | length of the country, and mod 97 = 1 (ISO 13616) |
| `card` | prefix and length of an issuer, and Luhn's checksum (ISO/IEC 7812) |
| `ip` | a global IPv4 or IPv6 address |
| `key` | keys and tokens that have a prefix of their issuer; private keys; JSON web tokens |
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from devtools.data.libraries import load
from shared.errors import InvalidInput

KINDS = ("key", "email", "iban", "card", "phone", "ip")
"""In this order: of two that overlap the earlier one is meant."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where personal data stands in a text: characters start to end."""

    kind: str
    start: int
    end: int


_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w%+-]+(?:\.[\w%+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in re.findall(
        r"\w+",
        """
        AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18
        FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20
        LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24
        SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
        """,
    )
}
"""Characters of an account number, by country."""
_CARD = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){12,18}(?![\d])")
_CARD_ISSUERS = (
    (re.compile(r"4"), {13, 16, 19}),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"6011|64[4-9]|65|62"), {16, 17, 18, 19}),
    (re.compile(r"35(?:2[89]|[3-8])"), {16}),
    (re.compile(r"30[0-5]|36|38|39"), {14}),
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:){2,7}(?:[0-9A-Fa-f]{1,4}|:)(?![\w:])")
_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----|\Z)"
    r"|(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|sk-[A-Za-z0-9_-]*[A-Za-z0-9]{20,}[A-Za-z0-9_-]*|[sr]k_live_[A-Za-z0-9]{20,}"  # OpenAI, Anthropic; Stripe
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}"  # Google
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|llmos-[A-Za-z0-9_-]{43}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"  # JSON web token
    r")(?![A-Za-z0-9_-])",
    re.DOTALL,
)
_KEY_HINTS = (
    *("PRIVATE KEY", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "sk-"),
    *("k_live_", "AIza", "ya29.", "hf_", "npm_", "pypi-", "llmos-", "eyJ"),
)
"""One of them is in each key; looking for them is faster than looking for keys."""
_DIGIT = re.compile(r"\d")
_WITH_DIGITS = frozenset({"iban", "card", "phone"})
_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6,}")
"""Seven digits or more, as any phone number has."""


def check_regions(regions: Sequence[str]) -> None:
    """Raise InvalidInput for what is no country."""
    known = load("phonenumbers").SUPPORTED_REGIONS if regions else ()
    for region in regions:
        if region not in known:
            raise InvalidInput(f"region {region!r}: expected a country such as US or DE", param="region")


def find(text: str, kinds: Sequence[str] = KINDS, regions: Sequence[str] = ()) -> list[Span]:
    """The personal data in a text, in order, without overlaps.

    Args:
        text: Any.
        kinds: Which to look for.
        regions: Countries (`US`, `DE`) whose national phone numbers count; international ones always do.
    """
    found: list[Span] = []
    digits = _DIGIT.search(text) is not None
    for kind in KINDS:
        if kind in kinds and (digits or kind not in _WITH_DIGITS):
            for start, end in _phones(text, regions) if kind == "phone" else _RULES[kind](text):
                if all(end <= other.start or start >= other.end for other in found):
                    found.append(Span(kind, start, end))
    return sorted(found, key=lambda span: span.start)


def mask(text: str, spans: Sequence[Span]) -> str:
    """The text with `[EMAIL]`, `[PHONE]`, … in the place of each span."""
    for span in reversed(spans):
        text = f"{text[: span.start]}[{span.kind.upper()}]{text[span.end :]}"
    return text


def _keys(text: str) -> Iterator[tuple[int, int]]:
    if any(hint in text for hint in _KEY_HINTS):
        yield from (match.span() for match in _KEY.finditer(text))


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        if length := _iban_length(match[0]):
            yield match.start(), match.start() + length


def _cards(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _CARD.finditer(text) if _is_card(re.sub(r"[ -]", "", match[0])))


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    # The patterns are slow where they find nothing.
    for pattern in (
        *([_IPV4] if text.count(".") > 2 and _DIGIT.search(text) else ()),
        *([_IPV6] if "::" in text or text.count(":") > 6 else ()),
    ):
        yield from (match.span() for match in pattern.finditer(text) if _is_global(match[0]))


_RULES: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "key": _keys,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _addresses,
}


def _iban_length(text: str) -> int:
    """How many characters of `text` are an IBAN; 0 if none are."""
    length = _IBAN_LENGTHS.get(text[:2], 0)
    taken = end = 0
    for end, character in enumerate(text, start=1):  # noqa: B007  # the end is what is looked for
        taken += character != " "
        if taken == length:
            break
    if not length or taken < length:
        return 0
    iban = text[:end].replace(" ", "")
    digits = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    return end if int(digits) % 97 == 1 else 0


def _is_card(digits: str) -> bool:
    if not any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_ISSUERS):
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0 and len(set(digits)) > 1


def _phones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    if not _DIGITS.search(text):
        return
    library = load("phonenumbers")
    for region in regions or (None,):
        if region is None and "+" not in text:
            continue
        for match in library.PhoneNumberMatcher(text, region, leniency=library.Leniency.VALID):
            found = text[match.start : match.end]
            open_only = found.startswith("(") and found.count("(") > found.count(")")
            yield match.start + open_only, match.end


def _is_global(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False
