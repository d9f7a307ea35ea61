import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("devices", "0016_own_channel_rules"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Host",
            fields=[
                (
                    "device",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="host",
                        serialize=False,
                        to="devices.device",
                    ),
                ),
                ("sender", models.CharField(max_length=20)),
                ("at", models.FloatField()),
                ("cpu", models.FloatField(null=True)),
                ("memory", models.FloatField(null=True)),
                ("disk", models.FloatField(null=True)),
                ("disk_name", models.CharField(blank=True, max_length=200)),
                ("swap", models.FloatField(null=True)),
                ("load", models.FloatField(null=True)),
                ("cores", models.FloatField(null=True)),
                ("uptime", models.FloatField(null=True)),
                ("pain", models.FloatField()),
                ("silent", models.BooleanField(db_default=False, default=False)),
                ("counters", models.JSONField(db_default={}, default=dict)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
    ]
