"""Who runs the server of a directory, so that no two are ever started on it.

    server.lock    locked by the server's own processes, who inherit it: the kernel lets go of it
                   when the last of them ends, whatever container they are in
    owner.json     the host that started the server; it goes when the server is stopped

A lock says nothing about another host where the file system keeps locks to itself, so the file of
another host is obeyed: better a sentence than two servers in one directory. It does not know what
the server is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import Unavailable
from serve_app.stores.durable import make_once, replace

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/etc/machine-id")
_PROCESSES = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Host:
    """Where a process runs.

    Attributes:
        name: the host's, or the container's.
        machine: of its installation; empty in most containers. Its network card's where the
            kernel does not say `boot`, as on macOS.
        boot: another one after each start of the kernel; empty where it cannot be known.
        processes: the name space of process ids; one kernel has as many as containers.
    """

    name: str
    machine: str
    boot: str
    processes: str

    @classmethod
    def here(cls) -> Host:
        """Of this process."""
        processes = ""
        with contextlib.suppress(OSError):
            processes = str(_PROCESSES.readlink())
        machine, boot = _text(_MACHINE), _text(_BOOT)
        if not boot:
            machine = machine or _network_card()
        return cls(socket.gethostname(), machine, boot, processes)

    def shares_kernel(self, other: Host) -> bool:
        """Locks of one are seen by the other."""
        if not self.boot:
            # A start of the kernel cannot be told from another, and need not: none kept a lock.
            return bool(self.machine) and self == other
        return self.boot == other.boot

    def was_restarted_as(self, other: Host) -> bool:
        """The other is this one after a new start: nothing that ran here runs any more."""
        same = (self.name, self.machine) == (other.name, other.machine)
        return same and bool(self.boot) and bool(other.boot) and self.boot != other.boot


class ServerOwner:
    """The two files, in a directory that exists."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "owner.json"
        self._lock = directory / "server.lock"

    def host(self) -> Host | None:
        """Who started the server; None when nobody did since it was last stopped."""
        try:
            return Host(**json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise Unavailable(
                f"{self._file} cannot be read: {error}. When no server runs in this directory, on "
                "any host, delete the file."
            ) from error

    def is_alive(self) -> bool:
        """A process of a server lives, in any container of this host."""
        try:
            os.close(self._locked(fcntl.LOCK_SH))
        except BlockingIOError:
            return True
        return False

    def take(self, *, is_clean: bool) -> int:
        """Become the owner; the locked descriptor, for the server to inherit and us to close.

        Args:
            is_clean: the last server left nothing behind, so an unknown one need not be feared.

        Raises:
            Unavailable: another host is, or may be; the text says what to do.
        """
        try:
            lock = self._locked(fcntl.LOCK_EX)
        except BlockingIOError as error:
            raise Unavailable(f"Another server runs in {self._directory}.") from error
        try:
            self._write(is_clean)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def leave(self) -> None:
        """No server is left."""
        self._file.unlink(missing_ok=True)

    def refuse_elsewhere(self) -> None:
        """Raise Unavailable when the owner is another host, or one that nobody can tell from it."""
        owner, here = self.host(), Host.here()
        if owner is None or owner.shares_kernel(here) or owner.was_restarted_as(here):
            return
        raise Unavailable(
            f"The database in {self._directory} was started on {owner.name} and not stopped there. "
            "One host at a time can run it: stop the service there, or name a server for all hosts "
            f"in DATABASE_URL. If {owner.name} is gone for good, delete {self._file}."
        )

    def _write(self, is_clean: bool) -> None:
        here = asdict(Host.here())
        for _ in range(2):
            self.refuse_elsewhere()
            if self.host() is None and not is_clean:
                raise Unavailable(
                    f"A server in {self._directory} was not stopped, and nothing says where it "
                    "runs. When it runs on no host, delete postmaster.pid in pgdata there."
                )
            if self.host() is None:
                make_once(self._file, json.dumps(here).encode())
            else:
                # Ours, of a server that died: the lock says so. Without a moment in which the file
                # is gone: with what that server left, nobody could take it up any more.
                replace(self._file, json.dumps(here).encode())
            if self.host() == Host.here():
                return
        raise Unavailable(f"Another host starts a server in {self._directory} now.")

    def _locked(self, kind: int) -> int:
        """Raises BlockingIOError when somebody else holds the lock."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        return lock


def _network_card() -> str:
    """Its address; empty where there is none, for which Python makes one up each time."""
    node = uuid.getnode()
    return "" if node >> 40 & 1 else f"{node:012x}"


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
