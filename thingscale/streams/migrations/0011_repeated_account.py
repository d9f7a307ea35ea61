from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("streams", "0010_rollup_format")]

    operations = [
        migrations.AddField(model_name="repeated", name="account", field=models.BigIntegerField(null=True)),
    ]
