"""The main job, with nothing but Python; scripts/rehearse_image.py has an image do it. Somebody signs in, an
app makes a device, the device publishes by MQTT, the app reads what it sent.

    python rehearse_main_job.py URL MQTT_PORT EMAIL PASSWORD USER_ID DEVICE_TOKEN API_TOKEN
"""

import http.cookiejar
import json
import re
import socket
import sys
import urllib.parse
import urllib.request
from typing import Any

DEVICE, VALUE = "rehearsed", {"temp": 21.5}
SECONDS = 60


def sign_in(url: str, email: str, password: str) -> int:
    """How many static files the page has; all of them are there."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = browser.open(f"{url}/signin/", timeout=SECONDS).read().decode()
    files = set(re.findall(r'(?:src|href)="(/static/[^"#]+)', page))
    for name in files:
        browser.open(f"{url}{name}", timeout=SECONDS)
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
    form = {"csrfmiddlewaretoken": token, "username": email, "password": password}
    asked = urllib.request.Request(
        f"{url}/signin/", urllib.parse.urlencode(form).encode(), {"Referer": f"{url}/signin/", "Origin": url}
    )
    home = browser.open(asked, timeout=SECONDS)
    assert not home.url.startswith(f"{url}/signin"), "not signed in"
    return len(files)


def rest(url: str, api_token: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = urllib.request.Request(f"{url}{path}", sent, {"X-APITOKEN": api_token, **names}, method=method)
    with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
        return json.load(answer)


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    length, more = len(body) % 128, len(body) // 128
    return bytes([first, length | 128, more] if more else [first, length]) + body


def publish(port: int, user_id: str, device_token: str) -> None:
    """With MQTT 3.1.1 at QoS 1."""
    login = text("MQTT") + b"\4\xc2\0\x3c" + text(DEVICE) + text(user_id) + text(device_token)
    payload = json.dumps(VALUE).encode()
    with socket.create_connection(("127.0.0.1", port), SECONDS) as device:
        device.sendall(packet(0x10, login))
        assert device.recv(4, socket.MSG_WAITALL) == b"\x20\2\0\0", "refused"
        device.sendall(packet(0x32, text(f"{device_token}/json/{DEVICE}") + b"\0\7" + payload))
        assert device.recv(4, socket.MSG_WAITALL) == b"\x40\2\0\7", "not acknowledged"


def main() -> None:
    url, mqtt_port, email, password, user_id, device_token, api_token = sys.argv[1:]
    files = sign_in(url, email, password)
    rest(url, api_token, "POST", f"/v2/device/{DEVICE}", {"enabled": True, "mapped_ch": 0})
    publish(int(mqtt_port), user_id, device_token)
    rows = rest(url, api_token, "GET", "/v2/stream/0", X_ENDTIME="last")["stream"]
    assert [row["value"] for row in rows] == [VALUE], rows
    sys.stdout.write(
        f"signed in ({files} static files), made a device, published by MQTT, read by REST: {VALUE}\n"
    )


if __name__ == "__main__":
    main()
