"""The texts that `manage.py up` shows at the terminal."""

from thingscale.lib.kinds import ENDPOINTS, Kind
from thingscale.local.bootstrap import DEVICE, EMAIL, FirstAccount
from thingscale.local.config import PARTS, Config

JSON = ENDPOINTS[Kind.JSON]


def first_account(account: FirstAccount) -> str:
    rows = [
        ("user id", account.user_id),
        ("API token", account.api_token),
        ("device token", account.device_token),
        ("console", f"{EMAIL}   password {account.password}"),
    ]
    lines = ["Your first account. The password is shown only now.", "", *(f"{k:<13}{v}" for k, v in rows)]
    width = max(map(len, lines))
    body = [f"│ {line:<{width}} │" for line in lines]
    return "\n".join([f"╭{'─' * (width + 2)}╮", *body, f"╰{'─' * (width + 2)}╯"])


def ready(config: Config, account: FirstAccount | None) -> str:
    user = account.user_id if account else "U000001"
    token = account.device_token if account else "DEVICE_TOKEN"
    api_token = account.api_token if account else "API_TOKEN"
    curl = "curl --haproxy-protocol" if config.proxied else "curl"
    hint = [] if account else [f"(the tokens: .venv/bin/python manage.py show_account {user})"]
    if "web" in config.parts:
        lines = [
            f"ready: {config.url}/",
            "",
            f"Send a value, and read it back: {' '.join(hint)}".rstrip(" "),
            "",
        ]
        headers = f"-H 'X-DEVICETOKEN: {token}' -H 'X-DEVICEID: {DEVICE}'"
        url = f"{config.url}{JSON.http_paths[0]}/"
        lines += [
            f"""  {curl} -X POST {url} {headers} -d '{{"temp": 21.5}}'""",
            *_publish(config, user, token),
            f"  {curl} -H 'X-APITOKEN: {api_token}' -H 'X-ENDTIME: last' {config.url}/v2/stream/0",
        ]
    else:
        lines = [f"ready: {', '.join(part for part in PARTS if part in config.parts)}"]
        lines += ["", *publish] if (publish := _publish(config, user, token)) else []
    return "\n".join([*lines, "", "Ctrl-C stops everything."])


def _publish(config: Config, user: str, token: str) -> list[str]:
    if not config.mqtt_port or config.proxied:
        return []
    login = f"-h {config.host} -p {config.mqtt_port} -u {user} -P {token}"
    return [f"""  mosquitto_pub {login} -t '{token}/{JSON.topic(DEVICE)}' -q 1 -m '{{"temp": 21.5}}'"""]
