"""`llmos data …`: rows become versions of datasets; check, prepare, look at them.

| file | commands |
|---|---|
| `versions` | `import`, `list`, `show`, `alias`, `delete`, `export` |
| `check` | `check` |
| `look` | `sample`, `query`, `diff` |
| `prepare` | `prepare` |
| `options`, `print` | options that several commands take; lines for people |
"""

import typer

from llmos.cli.data import check, look, prepare, versions

app = typer.Typer(
    no_args_is_help=True, help="Rows for training and evaluation: import, check, prepare, look at them."
)
for group in (versions, check, prepare, look):
    app.registered_commands.extend(group.app.registered_commands)
