from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0010_max_queued"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="own_topics",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="MQTT topics without a token, for signed-in clients",
            ),
        ),
    ]
