"""Ships the profiles of ``devices/`` and ``models/`` inside the package; all else is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Copies the profiles where ``edgebench.profiles`` looks for them in an installed package."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return  # they are found beside the package
        for kind in ("devices", "models"):
            target = Path(self.build_lib, "edgebench", "data", kind)
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for profile in sorted(Path(kind).glob("*.yaml")):
                shutil.copyfile(profile, target / profile.name)


setup(cmdclass={"build_py": BuildPy})
