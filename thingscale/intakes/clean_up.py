"""Deletes messages that are old, and what accounts that are closed or gone have left behind."""

from django.db import connection

from thingscale.background import maintenance
from thingscale.intakes.models import IntakeMessage

BATCH = 1_000  # rows of a transaction, with 4 KiB of a body each

# Of `t`: its account is closed or gone.
_NO_ACCOUNT = "NOT EXISTS (SELECT FROM accounts_user u WHERE u.id = t.user_id AND u.closed_at IS NULL)"
OBSOLETE = {
    "intakes_intake": _NO_ACCOUNT,
    "intakes_lastintakenumber": _NO_ACCOUNT,
    "intakes_intakemessage": """NOT EXISTS (SELECT FROM intakes_intake i WHERE i.id = t.intake_id)
        OR t.received_at < now() - interval '1 day' * %(days)s""",
}


def clean_up() -> None:
    """Raises maintenance.Interrupted."""
    for table, obsolete in OBSOLETE.items():
        left = True
        while left:
            maintenance.check_stop()
            with connection.cursor() as cursor:
                cursor.execute(
                    f"""DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM {table} t WHERE {obsolete} LIMIT %(batch)s))""",  # noqa: S608
                    {"days": IntakeMessage.KEPT_DAYS, "batch": BATCH},
                )
                left = cursor.rowcount > 0
