"""Fixtures of the test lab, its mark, and hypothesis without deadlines, since the machine may be busy."""

import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings
from lab import tier

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

GATE = pytest.StashKey[tier.Gate]()


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory(prefix="edgebench-gate-")
    config.add_cleanup(folder.cleanup)
    config.stash[GATE] = tier.Gate(Path(folder.name))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a machine of the lab; modules that start engines of their own carry the mark themselves."""
    for item in items:
        call = getattr(item, "callspec", None)
        if tier.needs_lab(getattr(item, "fixturenames", ()), call.params if call else {}):
            item.add_marker("lab")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("lab"):
        return (yield)
    with item.config.stash[GATE].shut():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    outcome = yield
    for name in item.config.stash[GATE].started():
        raise tier.LabClosed(f"the engine {name}")
    return outcome


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> tier.Gate:
    return request.config.stash[GATE]
