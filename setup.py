"""What `pyproject.toml` can't say: installing LLMOS compiles the library of operators (`operators/build.py`).

An editable install puts it into the source tree; a wheel holds it. Where the folder is left out, as in the images of
services that neither run nor build graphs, nothing is compiled and no compiler is needed.
"""

import runpy
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.errors import CompileError

OPERATORS = Path("operators")
LIBRARY = OPERATORS / "liboperators.so"


class BuildOperators(Command):
    """A step of `build`, in the form of setuptools' `SubCommand`."""

    user_options: ClassVar[list[tuple[str, str | None, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.compiler: dict[str, Any] = runpy.run_path(str(OPERATORS / "build.py"))

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Bring the library in the source tree up to date, and copy it to where a wheel is put together."""
        if not self.compiler["is_current"](LIBRARY):
            try:
                self.compiler["build"](LIBRARY)
            except RuntimeError as error:
                raise CompileError(str(error)) from error
        for packed in self.get_outputs():
            self.mkpath(str(Path(packed).parent))
            self.copy_file(str(LIBRARY), packed)

    def get_source_files(self) -> list[str]:
        return [str(OPERATORS / source.name) for source in self.compiler["sources"]()]

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [f"{self.build_lib}/{LIBRARY}"]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    """setuptools' own, and the operators."""

    sub_commands: ClassVar = [("build_operators", None), *build.sub_commands]


class Wheel(bdist_wheel):
    """For every Python on its platform: the library knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[-1]


class Compiled(Distribution):
    """One that belongs to its platform, as those with extension modules do."""

    def has_ext_modules(self) -> bool:
        return True


if OPERATORS.is_dir():
    commands = {"build": Build, "build_operators": BuildOperators, "bdist_wheel": Wheel}
    setup(cmdclass=commands, distclass=Compiled)
else:
    setup()
