from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0008_wills"),
    ]

    operations = [
        migrations.AddField(
            model_name="command",
            name="retain",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="command",
            name="topic",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
    ]
