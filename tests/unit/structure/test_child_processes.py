"""Child processes that run Python are started so that nothing of the current folder runs in them."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.harness.compose import ROOT, compose, exec_form

CODE = ("benchmarks", "deploy", "devtools", "llmos", "operators", "services", "shared", "tests")
FROM_THE_CHECKOUT = ("benchmarks.", "tests.")
"""Modules that are not installed: they are found because the checkout is the current folder."""
SAFE = {"-P", "-I"}


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of each command that runs a module of this Python without a safe path."""
    for node in ast.walk(tree):
        match node:
            case ast.List(elts=words) | ast.Tuple(elts=words) | ast.Call(args=words):
                texts = [word.value if isinstance(word, ast.Constant) else ast.unparse(word) for word in words]
                if "sys.executable" not in texts or "-m" not in texts:
                    continue
                options = texts[texts.index("sys.executable") : texts.index("-m")]
                module = str([*texts, ""][texts.index("-m") + 1])
                if not SAFE & set(options) and not module.startswith(FROM_THE_CHECKOUT):
                    yield node.lineno, module


@pytest.mark.parametrize("folder", CODE)
def test_no_child_looks_for_modules_in_the_current_folder(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {module}; use shared.service.python.python_module"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, module in unsafe(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('(sys.executable, "-m", "services.gateway")', ["services.gateway"]),
        ('f(sys.executable, "-m", f"services.{name}", env=e)', ["f'services.{name}'"]),
        ('(sys.executable, "-P", "-m", "services.gateway")', []),
        ('[sys.executable, "-m", "benchmarks.memory"]', []),
    ],
)
def test_an_unsafe_command_is_found(code: str, found: list[str]) -> None:
    assert [module for _, module in unsafe(ast.parse(code))] == found


def test_containers_start_with_a_safe_path() -> None:
    services = compose()["services"].values()
    commands = [" ".join(exec_form(name)) for name in ("ENTRYPOINT", "HEALTHCHECK")]
    commands += [" ".join(service["entrypoint"]) for service in services if "entrypoint" in service]
    commands.remove("/bin/sh /etc/nats/start.sh")  # of the image of nats-server, which has no Python
    assert len(commands) == 5
    assert all("python -P " in command for command in commands), commands


def test_make_starts_tools_with_a_safe_path() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    modules = [line.split(" -m ")[1] for line in lines if "python -m " in line or "$(PYTHON) -m " in line]
    of_the_checkout = [
        module for module in modules if module.startswith(("benchmarks.", "deploy.", "operators.", "tests."))
    ]
    assert modules == of_the_checkout != []
