"""What somebody did to the views of a version, as a store keeps and answers it.

Fields are the names in the JSON of the SQL functions. It does not know what becomes of the views
(`pipeline.flow.view_edits`) nor who stores the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator

from pipeline.flow.view_edits import EditKind

_Utc = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


@dataclass(frozen=True)
class NewViewEdit:
    """An edit that is to wait for a generation.

    Attributes:
        version: the generated version whose view it is.
        image_path: of the picture that replaces the view, RGBA PNG in VIEWS; else None.
        sha256: content hash of that file.
        engine: who found the outline in a picture that had none; else empty.
        notes: sentences that a user should read.
        source_version: of a view that is restored, the version that has it as the engine made it.
        seen: ids of the edits that wait for the version, in order, as they are known to who asks:
            nothing is done where they are others by now. None: whichever wait.
    """

    version: int
    view_index: int
    kind: EditKind
    image_path: str | None = None
    sha256: str | None = None
    engine: str = ""
    notes: tuple[str, ...] = ()
    source_version: int | None = None
    seen: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ViewEditRow(NewViewEdit):
    """One row of `view_edits`.

    Attributes:
        applied_by: the job that has made a model with it; None: it waits.
    """

    # With defaults, as what it inherits has them; a row has all of them.
    id: int = 0
    created_at: _Utc = datetime(1970, 1, 1, tzinfo=UTC)
    applied_by: str | None = None


@dataclass(frozen=True)
class PutViewEdit:
    """Answer to `put_view_edit`; `replaced` waited for the same view before."""

    edit: ViewEditRow
    replaced: ViewEditRow | None
