"""Fixtures of the test lab; hypothesis without deadlines, since the machine may be busy."""

from hypothesis import settings

settings.register_profile("edgebench", deadline=None)
settings.load_profile("edgebench")

pytest_plugins = [
    "lab.android",
    "lab.browser",
    "lab.cli",
    "lab.here",
    "lab.mlc",
    "lab.mlcchat",
    "lab.proxy",
    "lab.sshd",
    "lab.stores",
    "lab.windows",
]
