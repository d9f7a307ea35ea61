from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("events", "0012_claimed_by"),
    ]

    operations = [
        migrations.AlterField(
            model_name="event",
            name="kind",
            field=models.CharField(
                choices=[
                    ("threshold", "Threshold"),
                    ("range", "Range"),
                    ("change", "Change"),
                    ("rate", "Rate"),
                    ("trend", "Trend"),
                    ("silence", "Silence"),
                ],
                db_default="threshold",
                default="threshold",
                max_length=9,
            ),
        ),
    ]
