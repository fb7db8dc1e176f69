"""What is printed is what a name says: no markup, no emoji codes, no control characters."""

import subprocess
import sys

import pytest

from llmos.cli.output import print_error, print_table, printable, say

NAMES = ["ops [/prod]", "[bold]x[/bold]", ":cat:", "[link=http://x]y", "\\[a]"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_markup_is_printed_as_it_is(name, capsys):
    say(name)
    print_table(("ID", "NAME"), [(name, name)], empty="none")
    print_error(f"there is no {name}")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == name
    assert printed.out.splitlines()[2].split("  ") == [name, name]
    assert printed.err == f"error: there is no {name}\n"


def test_control_characters_are_shown_and_not_obeyed():
    assert printable("a\nb\x1b[31m\u2028\u202fé") == "a\\nb\\x1b[31m\\u2028\u202fé"


def test_an_error_is_one_line_however_long(capsys):
    print_error("first\n  second " + "x" * 500)
    assert capsys.readouterr().err == f"error: first second {'x' * 500}\n"


SAY = """
from llmos.cli.output import print_error, print_json, print_table, say, settle_streams, status
settle_streams()
say("é 😀"); print("日本"); print_table(("A",), [("😀",)], empty="")
print_json({"name": "é😀"})
print_error("é 😀")
with status("😀 [/x]") as show: show("[/y] é")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_another_encoding_gets_question_marks_and_whole_json(encoding):
    command = [sys.executable, "-c", SAY]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=60, env={"PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode(encoding)
    assert printed.splitlines()[0] == "é 😀".encode(encoding, "replace").decode(encoding)
    assert ("\\u00e9" in printed) == (encoding != "utf-8")
    assert done.stderr.decode(encoding).startswith("error: ")
