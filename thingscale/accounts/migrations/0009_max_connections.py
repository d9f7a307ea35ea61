from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0008_mqtt_limits"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="max_connections",
            field=models.PositiveIntegerField(
                db_default=10000, default=10000, help_text="MQTT clients that are connected to one gateway"
            ),
        ),
    ]
