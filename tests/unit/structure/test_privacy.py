"""ONNX Runtime's reports to its maker are switched off before it is imported, wherever it is imported."""

import ast
import os
import subprocess
import sys

import pytest

from shared.privacy import OPT_OUTS
from tests.support.harness.compose import ROOT, instructions

CODE = ("benchmarks", "deploy", "devtools", "llmos", "operators", "services", "shared", "tests")
SESSION = """
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "secret", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
import onnxruntime
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


def imported(path) -> set[str]:
    """The modules that a file imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


IMPORTERS = [
    path.relative_to(ROOT)
    for folder in CODE
    for path in sorted((ROOT / folder).rglob("*.py"))
    if any(name.split(".")[0] == "onnxruntime" for name in imported(path))
]


def test_importers_are_found():
    assert len(IMPORTERS) > 15


@pytest.mark.parametrize("path", IMPORTERS, ids=str)
def test_a_package_opts_out_before_a_module_of_it_imports_onnxruntime(path):
    packages = [ROOT / folder / "__init__.py" for folder in path.parents if (ROOT / folder / "__init__.py").exists()]
    assert any("shared.privacy" in imported(package) for package in packages), (
        f"the __init__ of a package above {path} must import shared.privacy"
    )


def files_in_home(home, code: str) -> list[str]:
    """What a Python process that runs `code` leaves in its home."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in OPT_OUTS}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-P", "-c", code + SESSION], env=environment, check=True, timeout=60)
    return [str(path.relative_to(home)) for path in home.rglob("*")]


@pytest.mark.parametrize(
    "module",
    [
        "services.inference.runtime.host",
        "devtools.convert.verify.check",
        "benchmarks.bare_loop",
        "tests.support.harness.graph_session",
    ],
)
def test_a_process_that_imports_our_code_records_nothing(tmp_path, module):
    assert files_in_home(tmp_path / "home", f"import {module}\n") == []


def test_a_program_that_had_imported_onnxruntime_before_reports_no_more(tmp_path):
    code = "import onnxruntime\ncalls = []\nonnxruntime.disable_telemetry_events = lambda: calls.append(1)\n"
    files_in_home(tmp_path / "home", f"{code}import shared.privacy\nassert calls == [1]\n")


def test_images_opt_out():
    (variables,) = [rest for name, rest in instructions() if name == "ENV" and "ORT_DISABLE_TELEMETRY" in rest]
    assert {f"{name}={value}" for name, value in OPT_OUTS.items()} <= set(variables.split())
