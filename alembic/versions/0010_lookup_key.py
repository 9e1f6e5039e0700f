"""lookup key"""

import sqlalchemy as sa
from alembic import context, op

from screening import row_security

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lookup_keys",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_lookup_keys_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lookup_keys")),
    )
    app_role = str(context.config.attributes.get("app_role", "screening_app"))
    for statement in row_security.grant(app_role, ("lookup_keys",), "select, insert, update"):
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("lookup_keys")
