from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("streams", "0005_repeated")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX datapoint_keyed ON datapoint (channel, dedupe) WHERE dedupe < 0",
            "DROP INDEX datapoint_keyed",
        ),
    ]
