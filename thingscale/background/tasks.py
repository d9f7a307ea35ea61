from thingscale.background.heartbeat import beat
from thingscale.celery import app


@app.task(name="heartbeat")
def heartbeat() -> None:
    beat()
