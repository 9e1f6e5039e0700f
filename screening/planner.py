"""What the database's planner is told, because its statistics know nothing of rows that came a moment ago."""

from sqlalchemy import text
from sqlalchemy.orm import Session

WORTH_TELLING = 500


def refresh(session: Session, *tables: str, changed: int) -> None:
    """Lets the planner count these tables of ours anew, after `changed` rows went into them at once.

    Until it hears of them by itself, a minute later, it takes a district that has just come for one with a row or
    none, and reads the whole district once for each student where a look into an index would do.
    """
    if changed >= WORTH_TELLING:
        session.flush()
        session.execute(text("select refresh_planner_statistics(variadic :tables)"), {"tables": list(tables)})
