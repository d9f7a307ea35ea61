from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0011_gateway_process"),
    ]

    operations = [
        migrations.AlterField(
            model_name="device",
            name=name,
            field=models.CharField(blank=True, db_default="", default="", max_length=max_length),
        )
        for name, max_length in (
            *(("description", 1000), ("device_type", 200)),
            *(("location", 200), ("manufacturer", 200)),
        )
    ]
