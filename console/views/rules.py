"""Activation rules: which new devices are enabled and mapped by themselves."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from console.forms.rules import RuleForm
from console.request import ConsoleRequest
from console.views.devices import SECTION, suggested
from thingscale.devices import actions
from thingscale.devices.models import ActivationRule, Device
from thingscale.lib.errors import ContractError
from thingscale.streams.models import Channel


def index(request: ConsoleRequest) -> HttpResponse:
    form = RuleForm(
        request.POST or None, account=request.account, initial={"pattern": request.GET.get("pattern")}
    )
    asked = "preview" in request.POST
    if form.is_valid() and not asked:
        try:
            channel = form.cleaned_data["channel"]
            rule = actions.create_rule(
                request.account, form.cleaned_data["pattern"], channel.pk if channel else None
            )
        except ContractError as refused:
            form.add_error("pattern", refused.detail)
        else:
            messages.success(
                request,
                _("New devices that match %(pattern)s are mapped within a minute.")
                % {"pattern": rule.pattern},
            )
            return redirect("rules")
    rules = list(ActivationRule.objects.for_account(request.account).select_related("channel"))
    context = {
        "form": form,
        "channels": suggested(request),
        "rules": rules,
        "no_room": _no_room(request) if any(rule.channel is None for rule in rules) else None,
        "preview": _preview(request, form["pattern"].value()) if asked else None,
    }
    return render(request, "console/rule/list.html", SECTION | context)


def preview(request: ConsoleRequest) -> HttpResponse:
    """A piece of the page, while somebody types."""
    context = {"preview": _preview(request, request.GET.get("pattern", ""))}
    return render(request, "console/rule/_preview.html", context)


@require_POST
def move(request: ConsoleRequest, pk: int) -> HttpResponse:
    actions.move_rule(_rule(request, pk), -1 if request.POST.get("to") == "up" else 1)
    return redirect("rules")


@require_POST
def delete(request: ConsoleRequest, pk: int) -> HttpResponse:
    rule = _rule(request, pk)
    actions.delete_rule(rule)
    messages.success(
        request, _("The rule for %(pattern)s is gone. Devices stay as they are.") % {"pattern": rule.pattern}
    )
    return redirect("rules")


def _rule(request: ConsoleRequest, pk: int) -> ActivationRule:
    return get_object_or_404(ActivationRule.objects.for_account(request.account), pk=pk)


def _no_room(request: ConsoleRequest) -> int | None:
    """How many channels the account may have, if it has them all: no device gets one of its own then."""
    most = request.account.max_channels
    return most if Channel.objects.for_account(request.account).count() >= most else None


def _preview(request: ConsoleRequest, pattern: str) -> int | None:
    """How many devices that wait now it would take; None for what is no pattern."""
    pattern = pattern.strip()
    if not pattern or len(pattern) > 64 or "\0" in pattern:
        return None
    return Device.objects.for_account(request.account).waiting().matching(pattern).count()
