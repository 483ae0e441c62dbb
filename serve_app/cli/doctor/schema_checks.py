"""What the migrations promise, read from their files, and whether a database has it.

It knows the answer of `inspect_v1()`; not how it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from deployments.jobs.rows import Bucket
from serve_app.cli.doctor.checks import Finding, failed, ok, warning
from serve_app.stores.migrations import demo_policies, migration_files, newest_version

PASTE = (
    "Run the SQL that `glimpse3d supabase sql` prints in the project's SQL editor, or "
    "`supabase db push`."
)
PASTE_AGAIN = "Run the SQL that `glimpse3d supabase sql` prints in the project's SQL editor."
CLOSE_DEMO = (
    "Unless that is meant, run the SQL that `glimpse3d supabase sql` prints in the project's SQL "
    "editor: it closes them."
)
OPEN_DEMO_AGAIN = (
    "Run the SQL that `glimpse3d supabase sql --demo` prints in the project's SQL editor again, or "
    "close the demo with `glimpse3d supabase sql`."
)
_DEMO = "glimpse3d_demo_read"
_NO_LINKS = ("storage", "objects", "glimpse3d_demo_no_links")
_NO_SELECT = ("storage", "objects", "glimpse3d_no_select")
_POLICIES = (
    *(("storage", "objects", f"glimpse3d_no_{verb}") for verb in ("delete", "insert", "update")),
    _NO_SELECT,
    ("storage", "buckets", "glimpse3d_no_buckets"),
)

_COMMENT = re.compile(r"--.*")
_MADE = re.compile(
    r"\b(create|drop)\s+(?:or\s+replace\s+)?(table|view|function)\s+(?:if\s+(?:not\s+)?exists\s+)?"
    r"public\.(\w+)",
    re.IGNORECASE,
)
_STEPS = re.compile(r"guard_functions_v1\(\s*(?:p_steps\s*=>\s*)?array\s*\[([^\]]*)\]")
_BUCKET = re.compile(r"\(\s*'([\w-]+)',\s*(\d+),\s*array\s*\[([^\]]*)\]\s*\)")
_WORD = re.compile(r"'([^']+)'")


@dataclass(frozen=True)
class BucketRules:
    """What a bucket takes."""

    size_limit: int
    mime_types: frozenset[str]


@dataclass(frozen=True)
class Promised:
    """What the migrations make: names in `public`, and the rules of the buckets.

    Attributes:
        steps: functions that the service role may call; they run with their owner's rights.
        demo: tables and views that the demo policies open for reading.
    """

    tables: frozenset[str]
    functions: frozenset[str]
    steps: frozenset[str]
    buckets: Mapping[str, BucketRules]
    demo: frozenset[str]


@cache
def promised() -> Promised:
    """What this release needs. Raises GlimpseError where the files are missing."""
    made: dict[str, set[str]] = {"table": set(), "view": set(), "function": set()}
    steps: set[str] = set()
    buckets: dict[str, BucketRules] = {}
    for migration in migration_files():
        text = _COMMENT.sub("", migration.sql)
        for verb, kind, name in _MADE.findall(text):
            names = made[kind.lower()]
            (names.add if verb.lower() == "create" else names.discard)(name)
        for listed in _STEPS.findall(text):
            steps.update(_WORD.findall(listed))
        for name, mebibytes, types in _BUCKET.findall(text):
            buckets[name] = BucketRules(int(mebibytes) * 2**20, frozenset(_WORD.findall(types)))
    tables = frozenset(made["table"] | made["view"])
    demo = _COMMENT.sub("", demo_policies())
    return Promised(
        tables,
        frozenset(made["function"]),
        frozenset(steps & made["function"]),
        buckets,
        frozenset(re.findall(r"public\.(\w+)", demo)) & tables,
    )


def check_version(found: str, fix: str) -> Finding:
    """Migrations newer than ours are fine: functions are versioned."""
    wanted = newest_version()
    if found < wanted:
        return failed(f"at migration {found}, this release needs {wanted}", fix)
    return ok(found if found == wanted else f"{found}, newer than this release ({wanted})")


def _listed(parts: Mapping[str, Iterable[str]]) -> str:
    """The kinds of faults that there are, with names."""
    named = {words: ", ".join(sorted(names)) for words, names in parts.items()}
    return "; ".join(f"{words}: {names}" for words, names in named.items() if names)


def has_demo(seen: Mapping[str, Any], schema: str = "public") -> bool:
    """The policies of supabase/policies/demo_read.sql are in force."""
    return any(row["name"] == _DEMO and row["schema"] == schema for row in seen["policies"])


def _is_closed(row: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """To the service role; elsewhere the service works as the owner, whoever has that name."""
    return seen["role"] == "service_role" and not row["service"]


def check_tables(seen: Mapping[str, Any], fix: str = PASTE_AGAIN) -> Finding:
    """Tables and views are there, guarded, and nobody but the service gets at them."""
    rows = {row["name"]: row for row in seen["tables"] if row["name"] in promised().tables}
    rights = {name: set(row["anon"]) for name, row in rows.items()}
    demo = {n for n in rows if has_demo(seen) and n in promised().demo and rights[n] == {"select"}}
    faults = _listed(
        {
            "missing": promised().tables - set(rows),
            "without row-level security": (
                name for name, row in rows.items() if not row["view"] and not row["row_security"]
            ),
            "open to anybody": (
                f"{name} ({', '.join(sorted(rights[name]))})"
                for name in rows
                if rights[name] and name not in demo
            ),
            "closed to the service role": (
                name for name, row in rows.items() if _is_closed(row, seen)
            ),
        }
    )
    if faults:
        return failed(faults, fix)
    if demo:
        return warning(
            f"anybody who has the anonymous key can read {', '.join(sorted(demo))}: the demo "
            "policies are in force",
            CLOSE_DEMO,
        )
    return ok(f"{len(rows)} tables and views")


def check_functions(seen: Mapping[str, Any], fix: str = PASTE_AGAIN) -> Finding:
    """Functions are there, and run with the rights and names that they were written for."""
    rows = [row for row in seen["functions"] if row["name"] in promised().functions]
    steps = [row for row in rows if row["name"] in promised().steps]
    faults = _listed(
        {
            "missing": promised().functions - {row["name"] for row in rows},
            "open to anybody": {row["name"] for row in rows if row["anon"]},
            "without a fixed search_path": {row["name"] for row in rows if not row["fixed_path"]},
            "not security definer": {row["name"] for row in steps if not row["definer"]},
            "closed to the service role": {row["name"] for row in steps if _is_closed(row, seen)},
        }
    )
    return failed(faults, fix) if faults else ok(f"{len(rows)} functions")


def check_policies(seen: Mapping[str, Any]) -> Finding:
    """The policies that say no on Storage's own tables are in force."""
    names = {
        (row["schema"], row["table"], row["name"]): row["permissive"] for row in seen["policies"]
    }
    missing = [policy for policy in _POLICIES if names.get(policy) is not False]
    demo = missing == [_NO_SELECT] and has_demo(seen, "storage")
    if missing and not demo:
        listed = ", ".join(f"{name} on {schema}.{table}" for schema, table, name in missing)
        return failed(f"missing: {listed}", PASTE_AGAIN)
    if demo and names.get(_NO_LINKS) is not False:
        return failed(
            "anybody who has the anonymous key can sign links of files that work as long as they "
            "like, also after the demo was closed",
            OPEN_DEMO_AGAIN,
        )
    if demo:
        return warning(
            "anybody who has the anonymous key can list and read all files: the demo policies are "
            "in force",
            CLOSE_DEMO,
        )
    return ok(f"{len(_POLICIES)} policies on Storage")


def check_buckets(seen: Mapping[str, Any]) -> Finding:
    """All buckets are there, take what we store, and are private."""
    if seen["buckets"] is None:
        return failed(
            "the project has no Storage",
            "Take a Supabase project with Storage; a database by itself goes into DATABASE_URL.",
        )
    rows = {row["id"]: row for row in seen["buckets"]}
    faults, remarks = [], []
    for name in Bucket:
        rules, row = promised().buckets[name], rows.get(name)
        if row is None:
            faults.append(f"{name} is missing")
            continue
        limit, types = row["file_size_limit"], row["allowed_mime_types"]
        if limit is not None and limit < rules.size_limit:
            faults.append(f"{name} takes {_mebibytes(limit)}, not {_mebibytes(rules.size_limit)}")
        elif limit != rules.size_limit:
            remarks.append(f"{name} takes {_mebibytes(limit)}")
        refused = sorted(rules.mime_types - set(types)) if types else []
        if refused:
            faults.append(f"{name} refuses {', '.join(refused)}")
        elif set(types or ()) != rules.mime_types:
            remarks.append(f"{name} takes {', '.join(sorted(types or ['any type']))}")
    public = [name for name in Bucket if name in rows and rows[name]["public"]]
    if public:
        remarks.append(f"anybody can read {', '.join(public)} without a key")
    if faults:
        return failed("; ".join([*faults, *remarks]), PASTE_AGAIN)
    if public:
        return warning(
            "; ".join(remarks),
            "Unless that is meant: switch it off in the dashboard under Storage, `Edit bucket`, "
            "`Public bucket`.",
        )
    if remarks:
        return warning("; ".join(remarks), f"{PASTE_AGAIN} It sets sizes and types back.")
    return ok(f"{len(Bucket)} buckets, private, with their sizes and types")


def _mebibytes(size: int | None) -> str:
    return "files of any size" if size is None else f"{size / 2**20:g} MiB"
