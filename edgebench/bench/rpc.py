"""A model over several devices: the engine's RPC servers on those that hold a part of it.

Such a server believes whoever reaches it, so it listens on its device's loopback only. The device
that leads reaches it through the controller: its wire back to here, and the other's wire from here.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType

from edgebench import plugins
from edgebench.core import Device, Launch, RpcHost, flat
from edgebench.device import lock
from edgebench.device.crashes import LOG_TAIL, crash_error
from edgebench.device.ports import PORT_TRIES, PORTS, PortInUse
from edgebench.device.session import Session, SupervisedProcess
from edgebench.errors import DeviceLost, EdgebenchError, EngineFailed, UsageError

START_S = 60.0
"""Longest time until a server takes connections; a GPU's driver may need a while."""

SILENCE_S = 0.3
"""A server that takes a connection and says nothing for so long waits for its first word."""

POLL_S = 0.05


class RpcWorkers(contextlib.AbstractContextManager["RpcWorkers"]):
    """The devices that hold parts of a model, open and locked; and servers that run already."""

    def __init__(
        self, head: Session, engine: str, asked: Sequence[Device | str], wait_policy: lock.WaitPolicy = lock.NO_WAIT
    ) -> None:
        """``asked``: a device, or ``HOST:PORT`` as the device that leads sees it."""
        self._head = head
        self._wait_policy = wait_policy
        self._members = [RpcWorker(one, engine) if isinstance(one, Device) else one for one in asked]
        self._names: dict[str, str] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RpcWorkers:
        if self._own:
            self._head.reverse_forwarding()
        with contextlib.ExitStack() as stack:
            for helper in self._own:
                with helper.named():
                    session = stack.enter_context(helper.session)
                stack.enter_context(lock.hold_lock(session, self._wait_policy))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def _own(self) -> list[RpcWorker]:
        return [one for one in self._members if isinstance(one, RpcWorker)]

    def reopen(self) -> None:
        """After a wire broke, no matter whose. Raises as ``Session.reopen``."""
        for helper in self._own:
            with helper.named():
                helper.session.reopen()

    def prepare(self) -> None:
        """Find the servers' programs. Raises ``EngineMissing``, ``DeviceLost``."""
        for helper in self._own:
            helper.prepare()

    def facts(self) -> list[dict[str, object]]:
        """One for each, in order: ``device``, its facts, the server's ``program``, ``protocol`` and ``devices``."""
        return [one.known() if isinstance(one, RpcWorker) else {"address": one} for one in self._members]

    @contextlib.contextmanager
    def serving(self, launch: Launch) -> Iterator[Launch]:
        """Servers that live as long as one engine; the launch with their addresses.

        Raises ``EngineFailed``, ``DeviceLost``; what the engine fails of meanwhile is put on the
        server that ended, where one did.
        """
        with contextlib.ExitStack() as stack:
            self._names = {}
            for one in self._members:
                if isinstance(one, RpcWorker):
                    port = stack.enter_context(self._head.reverse(stack.enter_context(one.serving())))
                    self._names[f"127.0.0.1:{port}"] = one.name
                else:
                    self._names[one] = one
            try:
                yield replace(launch, rpc=",".join(self._names))
            except EngineFailed as error:
                raise self.blamed(error) from error

    def blamed(self, error: EngineFailed) -> EngineFailed:
        """The same error, or the end of the server that is behind it. Raises ``DeviceLost``."""
        for helper in self._own:
            running = helper.running
            if running is None or not running.wait(2):
                continue
            if running.loss:
                raise DeviceLost(f"{helper.name}: {running.loss}", running.loss.hint)
            how = str(crash_error(running, "")).removeprefix("the engine ").strip()
            log = tuple(running.log_text()[-LOG_TAIL:])
            return EngineFailed(
                f"the RPC server on {helper.name} {how}, and then {error}", error.hint, log=log + error.log
            )
        return error

    def named(self, text: str) -> str:
        """A text of the engine with the devices' names for the addresses, which change at every start."""
        for address, name in self._names.items():
            text = text.replace(address, name)
        return text


class RpcWorker:
    """One device that holds a part of a model."""

    def __init__(self, device: Device, engine: str) -> None:
        self.name = device.name
        self.session = Session(device)
        self.running: SupervisedProcess | None = None
        host = plugins.create("engines", engine, self.session, config=device.engines.get(engine, {}))
        if not isinstance(host, RpcHost):
            raise UsageError(f"{engine} has no RPC server")
        self._engine: RpcHost = host
        self.facts: dict[str, object] = {"device": device.name}

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """A wire doesn't know what its device is called, and here there are several."""
        try:
            yield
        except EdgebenchError as error:
            error.args = (f"{self.name}: {error}",)
            raise

    def prepare(self) -> None:
        """Raises ``EngineMissing``."""
        self.facts |= {**self._engine.find_rpc(), "facts": flat(self.session.facts())}

    def known(self) -> dict[str, object]:
        """Facts, and what the running server said: it keeps its words to itself until somebody connects."""
        if self.running:
            self.facts |= self._engine.rpc_facts(self.running.log_text())
        return dict(self.facts)

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        """A server that waits for its first connection; its port on the controller's loopback."""
        for _ in range(PORT_TRIES):
            port = random.choice(PORTS)  # noqa: S311 - a port, not a secret
            with contextlib.ExitStack() as stack:
                running = self.session.start(self._engine.rpc_command(port))
                stack.callback(running.stop, 2)
                running.wait_started()
                here = stack.enter_context(self.session.forward(port))
                if not self._waits(running, here):
                    continue
                self.running = running
                try:
                    yield here
                finally:
                    self.running = None
                return
        raise PortInUse(f"every port tried on the loopback of {self.name} is taken")

    def _waits(self, running: SupervisedProcess, port: int) -> bool:
        """Whether it takes connections; False: somebody else has the port."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if running.is_ended:
                if running.loss:
                    raise DeviceLost(f"{self.name}: {running.loss}", running.loss.hint)
                if self._engine.port_taken(running.log_text()):
                    return False
                failed = crash_error(running, f"as an RPC server on {self.name}")
                raise EngineFailed(str(failed), failed.hint, status=failed.status, log=failed.log)
            if _silent(port):
                return True
            running.wait(POLL_S)
        raise EngineFailed(f"the RPC server on {self.name} took no connection for {START_S:g} s", log=())


def _silent(port: int) -> bool:
    """Whether a connection is taken and kept: a forward without anybody behind it hangs up."""
    try:
        with socket.create_connection(("127.0.0.1", port), SILENCE_S) as sock:
            sock.settimeout(SILENCE_S)
            sock.recv(1)
    except TimeoutError:
        return True
    except OSError:
        pass
    return False
