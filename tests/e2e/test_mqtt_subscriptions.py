"""Subscriptions through the running stack: durable sessions, retained messages."""
import pytest
from mqtt_clients import *
from mqtt_clients import V5_PAHO, V311_PAHO, V31
from stack import wait_until
import time
pytestmark = pytest.mark.e2e

VERSIONS=[pytest.param(V31,id="3.1"),pytest.param(V311_PAHO,id="3.1.1"),pytest.param(V5_PAHO,id="5")]

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos",[1,2])
@pytest.mark.parametrize("rest",["d1/subscribe","json/#"])
def test_durable(stack, account, version, qos, rest):
    running=gateway(stack); account.device("d1")
    expiry = 60 if version==V5_PAHO else 0
    topic = rest if "#" not in rest else "json/d1"
    me = Device(running, account, "me", version, clean=False, expiry=expiry)
    with me:
        assert not me.session_present
        assert me.subscribe(rest, qos=qos)==[qos]
    with Device(running, account, "other", version) as other:
        for n in range(5):
            assert other.publish(topic, b"%d" % n, qos=qos)==0
    me = Device(running, account, "me", version, clean=False, expiry=expiry)
    with me:
        print("present", me.session_present)
        assert me.payloads(5)==[b"0",b"1",b"2",b"3",b"4"]
        time.sleep(0.3)
        print(me.messages)
        assert len(me.messages)==5

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("rest",["d1/subscribe","json/d1"])
def test_retained(stack, account, version, rest):
    running=gateway(stack); account.device("d1")
    with Device(running, account, "other", version) as other:
        assert other.publish(rest, b"21.5", 1, True)==0
        time.sleep(0.2)
        with Device(running, account, "me", version) as me:
            assert me.subscribe(rest)==[1]
            time.sleep(0.3)
            print(me.messages)
            assert len(me.messages)==1
        assert other.publish(rest, b"", 1, True)==0
        time.sleep(0.2)
        with Device(running, account, "me", version) as me:
            assert me.subscribe(rest)==[1]
            time.sleep(0.3)
            assert me.messages==[]

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos",[0,1,2])
@pytest.mark.parametrize("rest",["d1/subscribe","json/d1"])
def test_will(stack, account, version, rest, qos):
    running=gateway(stack); account.device("d1")
    with Device(running, account, "me", version) as me:
        assert me.subscribe(rest, qos=2)==[2]
        other=Device(running, account, "other", version).will(rest, b"99", qos)
        other.connect()
        other.vanish()
        assert me.payloads(1)==[b"99"]
        print(me.messages)
    if rest=="json/d1": assert account.stored()==[("99",None)]
