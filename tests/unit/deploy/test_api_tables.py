import json
import re

import pytest

from deploy.make_api_tables import TARGET, operations, page, text


def test_the_tables_are_what_their_generator_writes():
    assert TARGET.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_route_of_the_model_apis_is_in_the_tables():
    paths = {f"| `{each.method} {each.path}` |" for routes in operations().values() for each in routes}
    assert len(paths) > 25
    assert all(path in text() for path in paths)


def test_a_table_says_what_is_served_ignored_and_refused():
    messages = text().split("\n`/v1/messages`:\n")[1].split("\n`/")[0]
    served, rest = messages.split("| served |")[1].split("\n", 1)
    assert "`max_tokens`" in served
    assert "`thinking.budget_tokens`" not in served
    assert "| ignored: thoughts count towards max_tokens | `thinking.budget_tokens` |" in rest
    assert '`speed` (`"standard"`)' in rest.split("| refused")[1]


@pytest.mark.parametrize(
    ("path", "forms"),
    [
        (
            "/v1/chat/completions",
            (
                '`tool_choice` (`"none"`, `"auto"`, `"required"`, `{"type": "function", "function": {"name": "…"}}`,'
                ' `{"type": "allowed_tools", "allowed_tools": {"mode": "…", "tools":'
                ' [{"type": "function", "function": {"name": "…"}}]}}`)'
            ),
        ),
        (
            "/v1/responses",
            (
                '`tool_choice` (`"none"`, `"auto"`, `"required"`, `{"type": "function", "name": "…"}`,'
                ' `{"type": "allowed_tools", "tools": [{"type": "function", "name": "…"}]}`)'
            ),
        ),
        ("/v1/messages", '`tool_choice.type` (`"auto"`, `"any"`, `"tool"`, `"none"`), `tool_choice.name`'),
    ],
)
def test_a_choice_of_tools_is_shown_in_the_forms_of_its_dialect(path, forms):
    table = text().split(f"\n`{path}`:\n")[1].split("\n`/")[0]
    assert forms in table
    assert "`tool_choice`" not in table.split("| refused")[1]


def test_values_are_json():
    assert '`modalities` (`["text"]`)' in text()
    assert '`background_options` (`{"completion_window": "soonest"}`)' in text()
    shown = [value for values in re.findall(r"\((`.+?`)\)", text()) for value in values.strip("`").split("`, `")]
    assert len(shown) > 100
    for value in shown:
        json.loads(value)
