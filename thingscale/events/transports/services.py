"""The services that a contact point may be at: those of Apprise that are reached by HTTP with the library
`requests`, which limited_requests.py limits. What is missing starts programs (macosx), talks to this machine
(dbus, syslog, gnome, windows), opens sockets or threads of its own (mqtt, irc, xmpp, smpp, growl, mailto), or
needs files.

This is read where an address is entered. Apprise itself takes memory, and is imported where it sends.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from thingscale.events.guard import check_host
from thingscale.lib.errors import ContractError

MAX_URL = 2000
MORE = "https://appriseit.com/services/"


class Service(NamedTuple):
    module: str  # in apprise.plugins
    plugin: str
    own_host: bool  # its address names a machine


# Module and class, * if its addresses name a host, and their schemes
_TABLE = """
apprise_api.NotifyAppriseAPI * apprise apprises
bark.NotifyBark * bark barks
betterstack.NotifyBetterStack * betterstack
brevo.NotifyBrevo - brevo
bulksms.NotifyBulkSMS - bulksms
burstsms.NotifyBurstSMS - burstsms kudosity
chanify.NotifyChanify - chanify
clickatell.NotifyClickatell - clickatell
clicksend.NotifyClickSend - clicksend
cliq.NotifyCliq - cliq zcliq zohocliq
custom_form.NotifyForm * form forms
custom_json.NotifyJSON * json jsons
custom_xml.NotifyXML * xml xmls
d7networks.NotifyD7Networks - d7sms
dingtalk.NotifyDingTalk - dingtalk
discord.NotifyDiscord - discord
feishu.NotifyFeishu - feishu
firehydrant.NotifyFireHydrant - firehydrant
flock.NotifyFlock - flock
fortysixelks.Notify46Elks - 46elks elks
freemobile.NotifyFreeMobile - freemobile
github.NotifyGitHub - github
goalert.NotifyGoAlert * goalert goalerts
google_chat.NotifyGoogleChat - gchat
gotify.NotifyGotify * gotify gotifys
groupme.NotifyGroupMe - groupme
home_assistant.NotifyHomeAssistant * hassio hassios
humhub.NotifyHumHub * humhub humhubs
ifttt.NotifyIFTTT - ifttt
ilert.NotifyILert - ilert
incidentio.NotifyIncidentIO - incidentio
infobip.NotifyInfobip * infobip
jira.NotifyJira - jira
join.NotifyJoin - join
kavenegar.NotifyKavenegar - kavenegar
kodi.NotifyXBMC * kodi kodis xbmc xbmcs
lametric.NotifyLametric * lametric lametrics
lark.NotifyLark - lark
line.NotifyLine - line
mailersend.NotifyMailerSend - mailersend
mailgun.NotifyMailgun * mailgun
mastodon.NotifyMastodon * mastodon mastodons toot toots
matrix.NotifyMatrix * matrix matrixs
mattermost.NotifyMattermost * mmost mmosts
messagebird.NotifyMessageBird - msgbird
misskey.NotifyMisskey * misskey misskeys
nextcloud.NotifyNextcloud * ncloud nclouds
nextcloudtalk.NotifyNextcloudTalk * nctalk nctalks
notica.NotifyNotica * notica noticas
notifiarr.NotifyNotifiarr - notifiarr
notifico.NotifyNotifico * notifico notificos
ntfy.NotifyNtfy * ntfy ntfys
octopush.NotifyOctopush - octopush
one_signal.NotifyOneSignal - onesignal
opsgenie.NotifyOpsgenie - opsgenie
pagerduty.NotifyPagerDuty - pagerduty
pagertree.NotifyPagerTree - pagertree
plivo.NotifyPlivo - plivo
postmark.NotifyPostmark - postmark
prowl.NotifyProwl - prowl
pushbullet.NotifyPushBullet - pbul
pushdeer.NotifyPushDeer * pushdeer pushdeers
pushed.NotifyPushed - pushed
pushme.NotifyPushMe - pushme
pushover.NotifyPushover - pover
pushplus.NotifyPushplus - pushplus wecom
pushsafer.NotifyPushSafer - psafer psafers
pushy.NotifyPushy - pushy
resend.NotifyResend - resend
revolt.NotifyRevolt - revolt
rocketchat.NotifyRocketChat * rocket rockets
ryver.NotifyRyver - ryver
sendgrid.NotifySendGrid - sendgrid
serverchan.NotifyServerChan - schan
seven.NotifySeven - seven
signal_api.NotifySignalAPI * signal signals
signl4.NotifySIGNL4 - signl4
simplepush.NotifySimplePush - simplepush spush
sinch.NotifySinch - sinch
slack.NotifySlack - slack
smseagle.NotifySMSEagle * smseagle smseagles
smtp2go.NotifySMTP2Go * smtp2go
sns.NotifySNS - sns
sparkpost.NotifySparkPost * sparkpost
spike.NotifySpike - spike
splunk.NotifySplunk - splunk victorops
spugpush.NotifySpugpush - spugpush
squadcast.NotifySquadcast - squadcast
stackfield.NotifyStackfield - stackfield
synology.NotifySynology * synology synologys
techuluspush.NotifyTechulusPush - push
telegram.NotifyTelegram - tgram
telnyx.NotifyTelnyx - telnyx
threema.NotifyThreema - threema
twilio.NotifyTwilio - twilio
twist.NotifyTwist - twist
voipms.NotifyVoipms - voipms
vonage.NotifyVonage - nexmo vonage
webexteams.NotifyWebexTeams - webex wxteams
wecombot.NotifyWeComBot - wecombot
whatsapp.NotifyWhatsApp - whatsapp
workflows.NotifyWorkflows * workflow workflows
wxpusher.NotifyWxPusher - wxpusher
xmatters.NotifyXMatters * xmatters
zoom.NotifyZoom - zoom
zulip.NotifyZulip - zulip
"""

# Addresses that services show to be copied, and the scheme whose plugin reads them
_COPIED = {
    r"https://discord(app)?\.com/api/webhooks/": "discord",
    r"https://hooks\.slack(-gov)?\.com/": "slack",
    r"https://chat\.googleapis\.com/v1/spaces/": "gchat",
    r"https://[a-z0-9.-]+\.(logic\.azure\.com|powerplatform\.com)(:443)?/": "workflows",
    r"https://ntfy\.sh/": "ntfys",
    r"https://(api\.ciscospark|webexapis)\.com/v1/webhooks/": "webex",
    r"https://maker\.ifttt\.com/use/": "ifttt",
    r"https://open\.larksuite\.com/open-apis/bot/": "lark",
    r"https://qyapi\.weixin\.qq\.com/cgi-bin/webhook/": "wecombot",
    r"https://inbots\.zoom\.us/incoming/hook/": "zoom",
    r"https://api\.flock\.com/hooks/sendMessage/": "flock",
    r"https://alert\.victorops\.com/integrations/generic/": "splunk",
}


def _read_table() -> dict[str, Service]:
    found: dict[str, Service] = {}
    for line in _TABLE.strip().splitlines():
        path, host, *schemes = line.split()
        module, plugin = path.split(".")
        found |= {scheme: Service(module, plugin, host == "*") for scheme in schemes}
    return found


SERVICES = _read_table()


def scheme_of(url: str) -> str:
    """Of the plugin that reads the address; empty if none does."""
    for pattern, scheme in _COPIED.items():
        if re.match(pattern, url, re.IGNORECASE):
            return scheme
    scheme = url.partition("://")[0].lower()
    return scheme if scheme in SERVICES else ""


def contact_url_problem(url: str) -> str | None:
    """A sentence that says what is wrong with the address of a contact point, if that can be seen without
    asking the service."""
    if len(url) > MAX_URL or not url.isprintable():
        return _("Give one line of %(max_url)s characters at most.") % {"max_url": MAX_URL}
    scheme = scheme_of(url)
    if not scheme:
        if re.match(r"https?://", url, re.IGNORECASE):
            return _(
                "This is no service's address that we know. For a webhook of your own write json%(value)s."
            ) % {"value": url[4:]}
        return _(
            "Give the address of a service, such as ntfys://ntfy.sh/TOPIC: %(more)s lists"
            " how each is written."
        ) % {"more": MORE}
    if not url.partition("://")[2].strip("/"):
        return _("After %(scheme)s:// comes what %(more)s says for this service.") % {
            "scheme": scheme,
            "more": MORE,
        }
    if SERVICES[scheme].own_host:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return _("This is no URL.")
        try:
            check_host(host, "")
        except ContractError as error:
            return error.detail.removeprefix(": ")
    return None


def masked(url: str) -> str:
    """What a page may show of the address, which has passwords and tokens in it."""
    scheme = scheme_of(url)
    own_host = scheme in SERVICES and SERVICES[scheme].own_host
    try:
        parts = urlsplit(url)
        host = parts.hostname if own_host and parts.path.strip("/") else ""
    except ValueError:
        host = ""
    return f"{url.partition('://')[0]}://{host}/\u2026" if host else f"{scheme}://\u2026"
