"""What one would write instead of a platform, for side_by_side.py: each message is inserted, committed, and
then acknowledged. `subscriber.py PORT TABLE`; says "ready" when it has subscribed.
"""

import os
import sys
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

DEVICES = "SELECT device_id, mapped_channel_id, id FROM devices_device WHERE mapped_channel_id IS NOT NULL"


def main() -> None:
    port, table = int(sys.argv[1]), sys.argv[2]
    database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    devices = {name: (channel, key) for name, channel, key in database.execute(DEVICES)}
    insert = f"INSERT INTO {table} (channel, at, device, value) VALUES (%s, now(), %s, %s)"

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        channel, device = devices[message.topic.rsplit("/", 1)[1]]
        database.execute(insert, [channel, device, message.payload.decode()])
        client.ack(message.mid, message.qos)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, "subscriber", clean_session=False, manual_ack=True)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.subscribe("+/json/+", qos=1)
    client.loop_forever()


if __name__ == "__main__":
    main()
