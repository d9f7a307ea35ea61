from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError, CommandParser

from thingscale.accounts.models import User
from thingscale.lib import clock
from thingscale.lib.plurals import counted
from thingscale.streams import range_deletion
from thingscale.streams.models import Channel

UTC = ZoneInfo("UTC")


class Command(BaseCommand):
    help = (
        "Deletes a channel's datapoints of a range of time, beside the platform. Without --delete it only"
        " counts"
        " them. May be stopped, and repeated."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="such as U000001")
        parser.add_argument("channel", type=int)
        parser.add_argument("start", help="the first moment, such as 2026-01-31 or 2026-01-31T13:45:00+09:00")
        parser.add_argument("end", help="the last moment; a day, a minute or a second is taken whole")
        parser.add_argument("--delete", action="store_true", help="delete them: nothing brings them back")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = User.objects.by_user_id(options["user_id"])
            channel = Channel.objects.for_account(user).get(number=options["channel"])
            start, end = clock.parse_start(options["start"], UTC), clock.parse_end(options["end"], UTC)
        except User.DoesNotExist:
            raise CommandError(f"There is no account {options['user_id']}.") from None
        except Channel.DoesNotExist:
            raise CommandError(f"The account has no channel {options['channel']}.") from None
        except ValueError as error:
            raise CommandError(f"A time {error}." if str(error) else "That is no time.") from None
        if start > end:
            raise CommandError("The first moment is after the last one.")
        if options["delete"]:
            deleted = range_deletion.delete_range(channel.id, start, end)
            self.stdout.write(f"{counted(deleted, 'datapoint was,datapoints were')} deleted.")
            return
        found = range_deletion.count_range(channel.id, start, end)
        between = f", from {found.first:%F %T} to {found.last:%F %T} UTC" if found.first else ""
        self.stdout.write(
            f"{counted(found.datapoints, 'datapoint')}{between}. Nothing is deleted without --delete."
        )
