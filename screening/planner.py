"""What the database's planner is told, because its statistics know nothing of rows that came a moment ago."""

from sqlalchemy import text
from sqlalchemy.orm import Session

WORTH_TELLING = 500


def begin_anew(session: Session, *, coming: int) -> None:
    """Before so many rows come, lets go of every plan that this connection made while there were few.

    The hidden ones of the foreign keys are among them: a plan is kept until somebody counts its tables, which may be
    after the last of the rows, and one made for a handful reads all of them for each.
    """
    if coming >= WORTH_TELLING:
        session.execute(text("discard plans"))


def refresh(session: Session, *tables: str, changed: int) -> None:
    """Lets the planner count these tables of ours anew, after `changed` rows went into them at once.

    Until it hears of them by itself, a minute later, it takes a district that has just come for one with a row or
    none, and reads the whole district once for each student where a look into an index would do.
    """
    if changed >= WORTH_TELLING:
        session.flush()
        session.execute(text("select refresh_planner_statistics(variadic :tables)"), {"tables": list(tables)})
