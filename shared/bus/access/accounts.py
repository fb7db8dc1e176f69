"""The tables as accounts of nats-server. Pure.

A role's account holds nothing but what it imports from others. In it, `$JS.API`, replies and inboxes are its own: a
request of JetStream whose reply subject is another service's reaches nobody. Users are limited to the same subjects
a second time, because a refusal by the server is an error and a message without a receiver is none.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from shared.bus.access.roles import Role
from shared.bus.access.spoken import BROADCASTS, REQUESTS
from shared.bus.access.stored import BUCKETS, STREAMS
from shared.bus.names import LIVE_SUBJECT, OBJECTS_STREAM, OBJECTS_SUBJECT, REPLY_TOPIC, bucket_stream, topic

ANSWER_S = 600
"""A request may be answered for this long: longer than any waits."""
_ANSWERS = {"max": 1, "expires": f"{ANSWER_S}s"}
_READ, _NEXT, _ACK = "$JS.API.DIRECT.GET", "$JS.API.CONSUMER.MSG.NEXT", "$JS.ACK"


@dataclass(slots=True)
class _Ways:
    """Subjects by the account that exports them, each with the accounts that import it."""

    services: dict[tuple[Role, str], set[Role]] = field(default_factory=lambda: defaultdict(set))
    """To publish on; the exporting account receives, and may answer."""
    streams: dict[tuple[Role, str], set[Role]] = field(default_factory=lambda: defaultdict(set))
    """To subscribe to; the exporting account publishes."""


def accounts(passwords: dict[Role, str]) -> dict[str, Any]:
    """The `accounts` of the server's configuration.

    Args:
        passwords: One for each role.
    """
    ways = _ways()
    return {role.value: _account(role, passwords[role], ways) for role in Role}


def _account(role: Role, password: str, ways: _Ways) -> dict[str, Any]:
    user: dict[str, Any] = {"user": role.value, "password": password}
    if role is Role.OWNER:
        return {"jetstream": "enabled", "users": [user], "exports": _exports(role, ways)}
    says = {subject for (_, subject), importers in ways.services.items() if role in importers}
    says |= {subject for (exporter, subject) in ways.streams if exporter is role}
    user["permissions"] = {"publish": {"allow": sorted(says)}, "allow_responses": _ANSWERS}
    return {"users": [user], "exports": _exports(role, ways), "imports": _imports(role, ways)}


def _exports(role: Role, ways: _Ways) -> list[dict[str, Any]]:
    services = [
        {"service": subject, "accounts": sorted(importers), "response": "stream"}
        if subject.startswith((_READ, _NEXT))
        else {"service": subject, "accounts": sorted(importers)}
        for (exporter, subject), importers in sorted(ways.services.items())
        if exporter is role
    ]
    streams = [
        {"stream": subject, "accounts": sorted(importers)}
        for (exporter, subject), importers in sorted(ways.streams.items())
        if exporter is role
    ]
    return services + streams


def _imports(role: Role, ways: _Ways) -> list[dict[str, Any]]:
    return [
        {kind: {"account": exporter.value, "subject": subject}}
        for kind, found in (("service", ways.services), ("stream", ways.streams))
        for (exporter, subject), importers in sorted(found.items())
        if role in importers
    ]


def _ways() -> _Ways:
    ways = _Ways()
    _add_spoken(ways)
    _add_stored(ways)
    for found in (ways.services, ways.streams):
        for key in [key for key, importers in found.items() if not importers]:
            del found[key]  # an export that names no account is open to all
    return ways


def _add_spoken(ways: _Ways) -> None:
    for requests in REQUESTS:
        ways.services[requests.answered_by, requests.subject].update(requests.sent_by)
        for sender in requests.sent_by:
            _add_objects(ways, sender, topic(requests.subject), requests.answered_by)
            _add_objects(ways, requests.answered_by, REPLY_TOPIC, sender)
    for broadcast in BROADCASTS:
        ways.streams[broadcast.sent_by, broadcast.subject].update(broadcast.received_by)
        for receiver in broadcast.received_by:
            _add_objects(ways, broadcast.sent_by, topic(broadcast.subject), receiver)


def _add_stored(ways: _Ways) -> None:
    owner = Role.OWNER
    for bucket in BUCKETS:
        ways.services[owner, f"$KV.{bucket.name}.>"].update(bucket.writers)
        stored = f"{_READ}.{bucket_stream(bucket.name)}"
        for read in (stored, f"{stored}.>"):
            ways.services[owner, read].update(bucket.audience)
        ways.streams[owner, f"{LIVE_SUBJECT}.{bucket.name}.>"].update(bucket.audience)
    for stream in STREAMS:
        for writer, subject in stream.writers.items():
            ways.services[owner, subject].add(writer)
            if stream.chained:
                ways.services[owner, f"{_READ}.{stream.name}.{subject}"].add(writer)
        ways.services[owner, f"{_READ}.{stream.name}"].update(stream.readers)
        for name, reader in stream.consumers:
            ways.services[owner, f"{_NEXT}.{stream.name}.{name}"].add(reader)
            ways.services[owner, f"{_ACK}.{stream.name}.{name}.>"].add(reader)
        if stream.chained:
            continue  # what is appended is never an object
        for receiver in {*stream.readers, *(reader for _, reader in stream.consumers)}:
            for writer in stream.writers:
                _add_objects(ways, writer, topic(stream.subject), receiver)


def _add_objects(ways: _Ways, sender: Role, about: str, receiver: Role) -> None:
    """Large payloads: written by their sender, read by those who receive what refers to them."""
    subject = f"{OBJECTS_SUBJECT}.{sender}.{about}.>"
    ways.services[Role.OWNER, subject].add(sender)
    ways.services[Role.OWNER, f"{_READ}.{OBJECTS_STREAM}.{subject}"].add(receiver)
