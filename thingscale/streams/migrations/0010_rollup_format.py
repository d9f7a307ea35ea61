from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("streams", "0009_longer_tags")]

    operations = [
        migrations.AddField(
            model_name="rolleduntil", name="format", field=models.SmallIntegerField(db_default=1)
        ),
    ]
