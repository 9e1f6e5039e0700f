"""narrow indexes

An index that begins with the district offers itself for the checks of foreign keys, and then each reads a district.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

INDEXES = {
    "alerts": ("student_id",),
    "assignments": ("student_id",),
    "cases": ("school_id", "state"),
    "students": ("school_id",),
}


def upgrade() -> None:
    for table, columns in INDEXES.items():
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
        op.drop_index(f"ix_{table}_district_id_{'_'.join(columns)}", table_name=table)


def downgrade() -> None:
    for table, columns in INDEXES.items():
        op.create_index(f"ix_{table}_district_id_{'_'.join(columns)}", table, ["district_id", *columns])
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table_name=table)
