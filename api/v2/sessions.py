"""/v2/session: the MQTT clients that are connected."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from api.arrays import array
from api.viewsets import AccountViewSet
from thingscale.devices.models import MqttSession
from thingscale.devices.presence import connected
from thingscale.lib.clock import without_colon


class SessionViewSet(AccountViewSet[MqttSession]):
    queryset = MqttSession.objects.all()

    def list(self, request: Request) -> HttpResponseBase:
        zone = self.request.actor.zone
        return array(
            {
                "client_id": session.client_id,
                "ipaddress": session.ipaddress,
                "clean_sess": session.clean_sess,
                "proto_ver": session.proto_ver,
                "keepalive": session.keepalive,
                "connected_at": without_colon(session.connected_at, zone),
            }
            for session in connected(self.request.account)
        )
