from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0009_max_connections"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="max_queued",
            field=models.PositiveBigIntegerField(
                db_default=2147483648,
                default=2147483648,
                help_text="bytes that wait for durable MQTT sessions, each message counted in each of their"
                " queues",
            ),
        ),
    ]
