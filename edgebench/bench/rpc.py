"""A model distributed over several devices: the engine's RPC servers on those that hold a part of it.

Such a server has no authentication, so it listens on its device's loopback only. The head device
reaches it through the controller: a reverse forward to the head, and a forward to the worker.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType

from edgebench.core import Device, Launch, RpcHost, flat
from edgebench.device import lock
from edgebench.device.crashes import LOG_TAIL, crash_error
from edgebench.device.engines import create_engine
from edgebench.device.ports import PORT_TRIES, PORTS, PortInUse
from edgebench.device.session import Session, SupervisedProcess
from edgebench.errors import DeviceLost, EdgebenchError, EngineFailed, UsageError

START_TIMEOUT_S = 60.0
"""Timeout of a server's start, seconds; a GPU driver may need a while."""

PROBE_TIMEOUT_S = 0.3
"""Seconds after which a server that accepts a connection and sends nothing counts as ready."""

POLL_S = 0.05


class RpcWorkers(contextlib.AbstractContextManager["RpcWorkers"]):
    """The devices that hold parts of a model, open and locked; and servers that already run."""

    def __init__(
        self, head: Session, engine: str, targets: Sequence[Device | str], wait_policy: lock.WaitPolicy = lock.NO_WAIT
    ) -> None:
        """``targets``: devices, or ``HOST:PORT`` as the head device sees it."""
        self._head = head
        self._wait_policy = wait_policy
        self._members = [RpcWorker(member, engine) if isinstance(member, Device) else member for member in targets]
        self._names: dict[str, str] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RpcWorkers:
        if self._started:
            self._head.reverse_forwarding()
        with contextlib.ExitStack() as stack:
            for worker in self._started:
                with worker.prefixed_errors():
                    session = stack.enter_context(worker.session)
                stack.enter_context(lock.hold_lock(session, self._wait_policy))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def _started(self) -> list[RpcWorker]:
        return [member for member in self._members if isinstance(member, RpcWorker)]

    def reopen(self) -> None:
        """Reopen all sessions after a lost connection. Raises like ``Session.reopen``."""
        for worker in self._started:
            with worker.prefixed_errors():
                worker.session.reopen()

    def prepare(self) -> None:
        """Find the servers' programs. Raises ``EngineMissing``, ``DeviceLost``."""
        for worker in self._started:
            worker.prepare()

    def facts(self) -> list[dict[str, object]]:
        """Facts of each worker, in order: ``device``, its facts, the server's ``program``, ``protocol`` …"""
        return [
            member.current_facts() if isinstance(member, RpcWorker) else {"address": member} for member in self._members
        ]

    @contextlib.contextmanager
    def serving(self, launch: Launch) -> Iterator[Launch]:
        """Run the servers as long as one engine; yields the launch with their addresses.

        Raises ``EngineFailed``, ``DeviceLost``; an engine's failure is attributed to a server that
        exited.
        """
        with contextlib.ExitStack() as stack:
            self._names = {}
            for member in self._members:
                if isinstance(member, RpcWorker):
                    port = stack.enter_context(self._head.reverse(stack.enter_context(member.serving())))
                    self._names[f"127.0.0.1:{port}"] = member.name
                else:
                    self._names[member] = member
            try:
                yield replace(launch, rpc=",".join(self._names))
            except EngineFailed as error:
                raise self.attribute_error(error) from error

    def attribute_error(self, error: EngineFailed) -> EngineFailed:
        """The error, or that of a server whose exit caused it. Raises ``DeviceLost``."""
        for worker in self._started:
            running = worker.running
            if running is None or not running.wait(2):
                continue
            if running.loss:
                raise DeviceLost(f"{worker.name}: {running.loss}", running.loss.hint)
            reason = str(crash_error(running, "")).removeprefix("the engine ").strip()
            log = tuple(running.log_text()[-LOG_TAIL:])
            return EngineFailed(
                f"the RPC server on {worker.name} {reason}, and then {error}", error.hint, log=log + error.log
            )
        return error

    def with_device_names(self, text: str) -> str:
        """A text of the engine with addresses, which change at every start, replaced by device names."""
        for address, name in self._names.items():
            text = text.replace(address, name)
        return text


class RpcWorker:
    """One device that holds a part of a model."""

    def __init__(self, device: Device, engine: str) -> None:
        self.name = device.name
        self.session = Session(device)
        self.running: SupervisedProcess | None = None
        host = create_engine(self.session, engine)
        if not isinstance(host, RpcHost):
            raise UsageError(f"{engine} has no RPC server")
        self._engine: RpcHost = host
        self.facts: dict[str, object] = {"device": device.name}

    @contextlib.contextmanager
    def prefixed_errors(self) -> Iterator[None]:
        """Prefix errors with the device's name."""
        try:
            yield
        except EdgebenchError as error:
            error.args = (f"{self.name}: {error}",)
            raise

    def prepare(self) -> None:
        """Raises ``EngineMissing``."""
        self.facts |= {**self._engine.find_rpc(), "facts": flat(self.session.facts())}

    def current_facts(self) -> dict[str, object]:
        """Facts, with those from the running server's log, which it prints only after the first connection."""
        if self.running:
            self.facts |= self._engine.rpc_facts(self.running.log_text())
        return dict(self.facts)

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        """Run a server; yields its port on the controller's loopback. Raises ``PortInUse``, ``EngineFailed``."""
        for _ in range(PORT_TRIES):
            port = random.choice(PORTS)  # noqa: S311 - a port, not a secret
            with contextlib.ExitStack() as stack:
                running = self.session.start(self._engine.rpc_command(port))
                stack.callback(running.stop, 2)
                running.wait_started()
                local_port = stack.enter_context(self.session.forward(port))
                if not self._accepts_connections(running, local_port):
                    continue
                self.running = running
                try:
                    yield local_port
                finally:
                    self.running = None
                return
        raise PortInUse(f"every port tried on the loopback of {self.name} is taken")

    def _accepts_connections(self, running: SupervisedProcess, port: int) -> bool:
        """Wait until the server accepts connections; False if its port is in use. Raises ``EngineFailed``."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if running.is_ended:
                if running.loss:
                    raise DeviceLost(f"{self.name}: {running.loss}", running.loss.hint)
                if self._engine.port_taken(running.log_text()):
                    return False
                error = crash_error(running, f"as an RPC server on {self.name}")
                raise EngineFailed(str(error), error.hint, status=error.status, log=error.log)
            if _is_listening(port):
                return True
            running.wait(POLL_S)
        raise EngineFailed(
            f"timed out: the RPC server on {self.name} accepted no connection for {START_TIMEOUT_S:g} s", log=()
        )


def _is_listening(port: int) -> bool:
    """Whether a connection is accepted and kept open: a forward without a server closes it."""
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as sock:
            sock.settimeout(PROBE_TIMEOUT_S)
            sock.recv(1)
    except TimeoutError:
        return True
    except OSError:
        pass
    return False
