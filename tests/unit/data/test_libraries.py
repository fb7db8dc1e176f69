"""Without the extra, one line says what to install; rows are printed as they are."""

import pytest

from devtools.data.libraries import load
from devtools.data.rows import Text
from llmos.cli.data.print import print_row
from shared.errors import UnsupportedFormat


def test_a_missing_library_is_one_line_that_says_what_to_install():
    with pytest.raises(UnsupportedFormat) as raised:
        load("no_such_library")
    assert raised.value.message == "this needs no_such_library: pip install 'llmos[data]'"


def test_rows_are_printed_without_markup(capsys):
    print_row(Text(text="[red]not red[/red] [/nothing] :smile: \x1b[31m"))
    assert "text: [red]not red[/red] [/nothing] :smile: \\x1b[31m" in capsys.readouterr().out
