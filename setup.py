"""What pyproject.toml can't say: firmware/ is a package of tables, and its manifest.py is none of its modules."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Leaves out what only builds of firmware are for."""

    def find_package_modules(self, package, package_dir):
        """Return (package, module, file) of each module."""
        found = super().find_package_modules(package, package_dir)
        return [entry for entry in found if entry[0] != "https_ota_tools.tables"]


setup(cmdclass={"build_py": BuildPy})
