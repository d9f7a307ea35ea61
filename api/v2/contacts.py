"""/v2/contact: contact points, which are the addresses of services such as Slack or ntfy. An address has
passwords in it: it can be set, and is not shown."""

from typing import Any

from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.arrays import array
from api.viewsets import AccountViewSet, ok, path_number
from thingscale.accounts import encryption
from thingscale.events.actions import (
    create_contact_point,
    delete_contact_point,
    send_test,
    update_contact_point,
)
from thingscale.events.models import ContactPoint
from thingscale.events.transports.services import masked
from thingscale.lib.errors import ContractError


class ContactSerializer(serializers.Serializer[ContactPoint]):
    """A new one needs its name and its address; what they may be, the actions know."""

    enabled = serializers.BooleanField(required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        is_new = self.instance is None
        texts = {name: serializers.CharField(required=is_new, allow_blank=True) for name in ("name", "url")}
        return {**texts, **super().get_fields()}

    def to_representation(self, instance: ContactPoint) -> dict[str, Any]:
        try:
            address = masked(instance.url)
        except encryption.Undecryptable:
            address = ""
        return {
            "contact_id": instance.pk,
            "name": instance.name,
            "address": address,
            "enabled": instance.enabled,
        }


class ContactAccess(AccountViewSet[ContactPoint]):
    queryset = ContactPoint.objects.order_by("pk")
    serializer_class = ContactSerializer
    missing = ("NO_CONTACT", "You have no contact with this id: create it first.")

    def contact(self, number: str) -> ContactPoint:
        key = path_number(number)
        if key is None:
            raise ContractError(*self.missing)
        return self.find(pk=key)


class ContactViewSet(ContactAccess):
    def list(self, request: Request) -> HttpResponseBase:
        return array(map(self.get_serializer().to_representation, self.get_queryset()))

    def retrieve(self, request: Request, number: str) -> Response:
        return Response([self.get_serializer(self.contact(number)).data])

    def create(self, request: Request) -> Response:
        fields = self.changes()
        contact = create_contact_point(self.request.account, fields["name"], fields["url"])
        if not fields.get("enabled", True):
            update_contact_point(contact, {"enabled": False})
        return Response({"contact_id": contact.pk}, 201)

    def update(self, request: Request, number: str) -> Response:
        contact = self.contact(number)
        update_contact_point(contact, self.changes(instance=contact))
        return ok()

    def destroy(self, request: Request, number: str) -> Response:
        delete_contact_point(self.contact(number))
        return ok()


class ContactTestViewSet(ContactAccess):
    def create(self, request: Request, number: str) -> Response:
        deliveries = send_test(self.contact(number), self.request.actor)
        return Response({"delivery_ids": [str(delivery.pk) for delivery in deliveries]}, 201)
