from thingscale.celery import Maintenance, app
from thingscale.intakes import clean_up as cleaning


@app.task(name="intakes.clean_up", base=Maintenance)
def clean_up() -> None:
    cleaning.clean_up()
