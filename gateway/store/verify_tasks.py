"""The proof that each task asks what the journal says was asked, and is closed only where somebody closed it.

Must not know what tasks are about.  Theory: a task is opened by one row and closed by one more; so a question to a human that
was reworded, answered by nobody, or taken away contradicts them. Only what is missing from a wallet is told anew while its
task is open, by rows that name the task; older versions' rows did not, and such a task's wording is not held against it.
"""

import json
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from gateway.core.task_kinds import TaskKind
from gateway.store import columns as col
from gateway.store.broken import BookBroken
from gateway.store.side_by_side import matched

TASKS = f"SELECT {col.TASK_COLUMNS} FROM tasks ORDER BY id"  # noqa: S608 - column names are ours
TOLD = (
    "SELECT json_extract(CAST(body AS TEXT), '$.task_id') AS task_id, kind, body FROM journal "
    "WHERE kind IN ('task.opened', 'task.closed', 'float.missing') AND task_id IS NOT NULL ORDER BY task_id, seq"
)
REWORDED: TaskKind = "float_missing"


def verify_tasks(db: sqlite3.Connection) -> None:
    """Compare every task with what the journal tells of it. Raises BookBroken naming the first contradiction.

    Reads everything, one task at a time.
    """
    for task, told in matched("task", map(col.task_from, db.execute(TASKS)), _told(db)):
        for name, sealed in told.items():
            kept = getattr(task, name)
            if kept != sealed:
                raise BookBroken(f"task {task.id}: its {name} is {kept!r}, and the journal says {sealed!r}")


def _told(db: sqlite3.Connection) -> Iterator[tuple[str, dict[str, object]]]:
    for task_id, rows in groupby(db.execute(TOLD), key=itemgetter(0)):
        told: dict[str, object] = {"closed_at_ms": None, "resolution": None}
        for _, kind, body in rows:
            content = json.loads(body)
            if kind == "task.opened":
                told |= {name: content[name] for name in ("subject", "payment_id")}
                told |= {"kind": content["task"], "opened_at_ms": content["at_ms"]}
                if content["task"] != REWORDED:
                    told["detail"] = content["detail"]
            elif kind == "task.closed":
                told |= {"closed_at_ms": content["at_ms"], "resolution": content["resolution"]}
            else:
                told["detail"] = content["detail"]
        yield task_id, told
