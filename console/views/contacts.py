"""Contact points: Slack, Telegram, ntfy and others, to which events send."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from console.forms.contacts import ContactForm
from console.refused import field_and_sentence
from console.request import ConsoleRequest
from console.services import SERVICES
from console.views.events import SECTION
from thingscale.events import actions
from thingscale.events.models import ContactPoint
from thingscale.lib.errors import ContractError


def index(request: ConsoleRequest) -> HttpResponse:
    form = ContactForm(request.POST or None)
    if form.is_valid():
        try:
            point = actions.create_contact_point(request.account, **form.cleaned_data)
        except ContractError as refused:
            _refuse(form, refused)
        else:
            messages.success(
                request, _("%(name)s is there. Test it, and choose it in an event.") % {"name": point.name}
            )
            return redirect("contacts")
    points = ContactPoint.objects.for_account(request.account).prefetch_related("events")
    context = {"form": form, "points": points, "services": SERVICES}
    return render(request, "console/contact/list.html", SECTION | context)


def edit(request: ConsoleRequest, pk: int) -> HttpResponse:
    point = _point(request, pk)
    form = ContactForm(request.POST or None, keeps=True, initial={"name": point.name})
    if form.is_valid():
        try:
            changes = {name: text for name, text in form.cleaned_data.items() if text}
            actions.update_contact_point(point, changes)
        except ContractError as refused:
            _refuse(form, refused)
        else:
            messages.success(request, _("Saved."))
            return redirect("contacts")
    context = {"form": form, "point": point, "services": SERVICES}
    return render(request, "console/contact/edit.html", SECTION | context)


def delete(request: ConsoleRequest, pk: int) -> HttpResponse:
    point = _point(request, pk)
    if request.method == "POST":
        actions.delete_contact_point(point)
        messages.success(request, _("%(name)s is gone.") % {"name": point.name})
        return redirect("contacts")
    used = point.events.count()
    question = _("This deletes the contact point %(name)s.") % {"name": point.name}
    if used:
        question += " " + ngettext(
            "%(count)s event no longer notifies it.", "%(count)s events no longer notify it.", used
        ) % {"count": f"{used:,}"}
    texts = {"title": _("Delete contact point"), "question": question, "action": _("Delete contact point")}
    context = SECTION | texts | {"form": forms.Form(), "back": reverse("contacts")}
    return render(request, "console/confirm.html", context)


@require_POST
def switch(request: ConsoleRequest, pk: int, on: bool) -> HttpResponse:
    point = _point(request, pk)
    actions.update_contact_point(point, {"enabled": on})
    messages.success(
        request, (_("%(name)s is enabled.") if on else _("%(name)s is disabled.")) % {"name": point.name}
    )
    return redirect("contacts")


@require_POST
def test(request: ConsoleRequest, pk: int) -> HttpResponse:
    point = _point(request, pk)
    try:
        actions.send_test(point, request.actor)
    except ContractError as refused:
        messages.warning(request, field_and_sentence(refused)[1])
        return redirect("contacts")
    messages.success(
        request, _("A test to %(name)s is on its way. Below is what becomes of it.") % {"name": point.name}
    )
    return redirect(f"{reverse('deliveries')}?contact={pk}")


def _point(request: ConsoleRequest, pk: int) -> Any:
    return get_object_or_404(ContactPoint.objects.for_account(request.account), pk=pk)


def _refuse(form: ContactForm, refused: ContractError) -> None:
    name, sentence = field_and_sentence(refused)
    form.add_error(name if name in form.fields else None, sentence)
