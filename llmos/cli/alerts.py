"""`llmos alerts`: what is wrong now."""

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import note, print_json, print_table
from llmos.config import Target
from shared.contracts.monitor import AlertState


def register(root: typer.Typer) -> None:
    """Add the command."""
    root.command(epilog="Example: llmos alerts --json")(alerts)


def alerts(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """What is wrong, or was in the last hour: pending, firing, resolved. Exit code 1 if an alert fires."""
    with Target.resolve(home, url, api_key).client() as client:
        listed = client.alerts()
    if json:
        print_json(listed.model_dump(mode="json"))
    else:
        rows = [
            (
                alert.state,
                alert.severity,
                alert.rule,
                " ".join(f"{name}={value}" for name, value in alert.labels.items()),
                f"{alert.since:%Y-%m-%d %H:%M:%S}",
                alert.summary,
            )
            for alert in listed.alerts
        ]
        print_table(("STATE", "SEVERITY", "ALERT", "OF", "SINCE", "WHAT"), rows, empty="No alerts.")
        if listed.webhook_error:
            note(f"the webhook was not told: {listed.webhook_error}")
    if any(alert.state is AlertState.FIRING for alert in listed.alerts):
        raise typer.Exit(1)
