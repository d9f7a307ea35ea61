from django.db import migrations, models

import thingscale.accounts.models

# Others could sign up as `closed-4@account.invalid`, and account 4 could not be closed any more.
UNGUESSABLE = r"""UPDATE accounts_user
    SET email = 'closed-' || replace(gen_random_uuid()::text, '-', '') || '@account.invalid'
    WHERE closed_at IS NOT NULL AND email ~ '^closed-[0-9]+@account\.invalid$'"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_closing")]

    operations = [
        *[
            migrations.AlterField("user", name, field)
            for name, field in {
                "email": models.EmailField(
                    max_length=254, unique=True, validators=[thingscale.accounts.models.validate_email_domain]
                ),
                "email1": models.EmailField(
                    blank=True, max_length=254, validators=[thingscale.accounts.models.validate_email_domain]
                ),
                "email2": models.EmailField(
                    blank=True, max_length=254, validators=[thingscale.accounts.models.validate_email_domain]
                ),
            }.items()
        ],
        migrations.RunSQL(UNGUESSABLE, migrations.RunSQL.noop),
    ]
