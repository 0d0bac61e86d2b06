"""Fixtures of the test lab; hypothesis without deadlines, since the machine may be busy."""

import signal

from hypothesis import settings

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
