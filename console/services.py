"""How the addresses of usual services look, and where their parts come from."""

from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy


class ServiceExample(NamedTuple):
    name: str
    address: str
    how: Any


SERVICES = (
    ServiceExample(
        "ntfy",
        "ntfys://ntfy.sh/TOPIC",
        gettext_lazy("Choose a topic that nobody guesses, and subscribe to it in the app."),
    ),
    ServiceExample(
        "Telegram",
        "tgram://BOT_TOKEN/CHAT_ID",
        gettext_lazy(
            "@BotFather makes a bot and gives its token. Write to the bot once;"
            " @userinfobot tells your chat id."
        ),
    ),
    ServiceExample(
        "Slack",
        "https://hooks.slack.com/services/T…/B…/…",
        gettext_lazy("Make an app with an incoming webhook, and paste the webhook's address as it is."),
    ),
    ServiceExample(
        "Discord",
        "https://discord.com/api/webhooks/ID/TOKEN",
        gettext_lazy("Settings of the channel, Integrations, Webhooks: paste the address as it is."),
    ),
    ServiceExample(
        "Microsoft Teams",
        "workflows://HOST/WORKFLOW/SIGNATURE",
        gettext_lazy(
            "Add the workflow “Post to a channel when a webhook request is received”, and paste its address."
        ),
    ),
    ServiceExample(
        "Pushover",
        "pover://USER_KEY@APP_TOKEN",
        gettext_lazy("The user key is on the front page; make an application."),
    ),
    ServiceExample(
        "PagerDuty",
        "pagerduty://INTEGRATION_KEY@API_KEY",
        gettext_lazy(
            "Add an Events API v2 integration to the service; an API key is made under Integrations."
        ),
    ),
)
