from thingscale.celery import app
from thingscale.heartbeat import beat


@app.task(name="heartbeat")
def heartbeat() -> None:
    beat()
