"""Channels, with the labels of their streams and their tags."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.forms.channels import (
    MAX_STREAMS,
    ChangeChannelForm,
    ConfirmForm,
    NewChannelForm,
    StreamFormSet,
    TagForm,
    fits,
)
from console.paging import PAGE_SIZE, Page, page
from console.request import ConsoleRequest
from console.value_keys import value_keys
from console.vocabulary import counted
from thingscale.events.overview import firing_of, worst_firing
from thingscale.lib.errors import ContractError
from thingscale.streams.actions import tags as tag_actions
from thingscale.streams.actions.channels import create_channel, delete_channel, update_channel
from thingscale.streams.models import Channel, Latest, Tag

SECTION = {"section": "channels"}
TAGS_A_PAGE = 100
LOOK_AT = 100  # newest values of tags, in which keys are looked for
OFFERED_KEYS = 100  # that have no label yet


def index(request: ConsoleRequest) -> HttpResponse:
    channels = Channel.objects.for_account(request.account).with_totals()
    text = request.GET.get("q", "").strip()
    found = channels.search(text) if text else channels
    shown: Page[Any] = page(found, "number", PAGE_SIZE, request.GET.get("page", ""))
    firing = worst_firing(request.account, "channel", [channel.pk for channel in shown.rows])
    for channel in shown.rows:
        channel.firing = firing.get(channel.pk)
    return render(request, "console/channel/list.html", SECTION | {"page": shown, "q": text})


def create(request: ConsoleRequest) -> HttpResponse:
    free = Channel.objects.for_account(request.account).free_number()
    form = NewChannelForm(request.POST or None, initial={"number": free})
    if form.is_valid():
        try:
            channel = create_channel(request.account, **form.cleaned_data)
        except ContractError as refused:
            form.add_error("number", refused.detail)
        else:
            messages.success(
                request,
                _("Channel %(number)s is there. Map a device to it to fill it.") % {"number": channel.number},
            )
            return redirect("channel", channel.number)
    return render(request, "console/channel/new.html", SECTION | {"form": form})


def edit(request: ConsoleRequest, number: int) -> HttpResponse:
    channel = _channel(request, number)
    initial = {"name": channel.name, "retention_days": channel.retention_days}
    form = ChangeChannelForm(request.POST or None, initial=initial, kept=channel.retention_days)
    rows = None
    if not request.POST:  # offer keys that have been seen and have no label yet
        newest = Latest.objects.shown().filter(channel=channel).order_by("-at")[:LOOK_AT]
        labelled = {stream["key"] for stream in channel.streams}
        seen = dict.fromkeys(key for latest in newest for key in value_keys(latest.value))
        new = [key for key in seen if key not in labelled and fits(key)]
        rows = [
            *channel.streams,
            *({"key": key} for key in new[: min(OFFERED_KEYS, MAX_STREAMS - len(labelled))]),
        ]
    streams = StreamFormSet(request.POST or None, initial=rows, prefix="streams")
    if form.is_valid() and streams.is_valid() and streams.require_at_most(request.account.max_keys):
        try:
            update_channel(channel, form.cleaned_data | {"streams": streams.labels()})
        except ContractError as refused:
            if refused.code == "NO_CHANNEL":
                raise
            form.add_error(None, refused.detail)
        else:
            messages.success(request, _("Saved."))
            return redirect("channel", number)
    count, firing = firing_of(request.account, "channel", channel.pk)
    context = {"channel": channel, "form": form, "streams": streams} | _tags(request, channel)
    context |= {"firing": firing, "firing_count": count}
    return render(request, "console/channel/detail.html", SECTION | context)


def delete(request: ConsoleRequest, number: int) -> HttpResponse:
    channel = _channel(request, number)
    datapoints, devices = channel.datapoints or 0, channel.device_count or 0
    form = ConfirmForm(request.POST or None, expected=str(number))
    if form.is_valid():
        delete_channel(channel)
        messages.success(
            request,
            _("Channel %(number)s is gone, with %(datapoints)s.")
            % {"number": number, "datapoints": counted(datapoints, "datapoint")},
        )
        return redirect("channels")
    question = _("This deletes channel %(number)s %(name)s with %(datapoints)s, for ever.") % {
        "number": number,
        "name": channel.name,
        "datapoints": counted(datapoints, "datapoint"),
    }
    question += " " + ngettext(
        "%(count)s device loses its mapping; what comes is held, not lost.",
        "%(count)s devices lose their mapping; what comes is held, not lost.",
        devices,
    ) % {"count": f"{devices:,}"}
    texts = {
        "title": _("Delete channel %(number)s") % {"number": number},
        "question": question,
        "action": _("Delete channel"),
    }
    return _confirm(request, number, form, texts)


def rename_tag(request: ConsoleRequest, number: int, pk: int) -> HttpResponse:
    tag = _tag(request, number, pk)
    form = TagForm(request.POST or None, initial={"name": tag.name})
    if form.is_valid():
        try:
            tag_actions.rename_tag(tag, form.cleaned_data["name"])
        except ContractError as refused:
            form.add_error("name", refused.detail)
        else:
            return redirect("channel", number)
    return render(request, "console/channel/tag.html", SECTION | {"form": form, "tag": tag, "number": number})


def delete_tag(request: ConsoleRequest, number: int, pk: int) -> HttpResponse:
    tag = _tag(request, number, pk)
    count = sum(Latest.objects.filter(channel=tag.channel, tag=tag.pk).values_list("count", flat=True))
    form = ConfirmForm(request.POST or None, expected=tag.name)
    if form.is_valid():
        tag_actions.delete_tag(tag)
        messages.success(
            request,
            _("The tag %(name)s is gone, with %(datapoints)s.")
            % {"name": tag.name, "datapoints": counted(count, "datapoint")},
        )
        return redirect("channel", number)
    question = _("This deletes %(datapoints)s of channel %(number)s tagged %(name)s, for ever.") % {
        "datapoints": counted(count, "datapoint"),
        "number": number,
        "name": tag.name,
    }
    texts = {
        "title": _("Delete tag %(name)s") % {"name": tag.name},
        "question": question,
        "action": _("Delete tag"),
    }
    return _confirm(request, number, form, texts)


def _confirm(request: ConsoleRequest, number: int, form: ConfirmForm, texts: dict[str, str]) -> HttpResponse:
    context = SECTION | texts | {"form": form, "back": reverse("channel", args=[number])}
    return render(request, "console/confirm.html", context)


def _channel(request: ConsoleRequest, number: int) -> Any:
    return get_object_or_404(Channel.objects.for_account(request.account).with_totals(), number=number)


def _tag(request: ConsoleRequest, number: int, pk: int) -> Tag:
    tags = Tag.objects.filter(channel__in=Channel.objects.for_account(request.account).filter(number=number))
    return get_object_or_404(tags.select_related("channel"), pk=pk)


def _tags(request: ConsoleRequest, channel: Channel) -> dict[str, Any]:
    """A page of the channel's tags, those with the text that is searched for, by name."""
    text = request.GET.get("tag", "").strip().replace("\0", "")
    found = Tag.objects.filter(channel=channel, name__icontains=text)
    tags = page(found, "name", TAGS_A_PAGE, request.GET.get("tags", ""))
    latest = Latest.objects.filter(channel=channel, tag__in=[tag.pk for tag in tags.rows])
    totals = {row["tag"]: row for row in latest.values("tag", "count", "at")}
    rows = [{"tag": tag, "latest": totals.get(tag.pk)} for tag in tags.rows]
    return {"tags": rows, "page": tags, "text": text}
