from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent.parent / "sql" / "datapoint.sql"


class Migration(migrations.Migration):
    dependencies = [("streams", "0001_initial")]

    operations = [
        migrations.RunSQL(SQL.read_text(), "DROP TABLE datapoint; DROP SEQUENCE datapoint_id;"),
        # Every batch updates rows of `latest`: free space in each page keeps those updates off the index.
        migrations.RunSQL("ALTER TABLE streams_latest SET (fillfactor = 50)", migrations.RunSQL.noop),
    ]
