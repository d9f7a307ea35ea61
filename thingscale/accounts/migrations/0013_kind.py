from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0012_language"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="kind",
            field=models.CharField(
                choices=[("thingscale", "ThingScale"), ("servwatch", "Servwatch")],
                db_default="thingscale",
                default="thingscale",
                help_text="what it is mostly for, and so which words the console has for it",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="user",
            name="has_hosts",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
