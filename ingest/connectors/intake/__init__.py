"""The HTTP door of intakes: what other people's programs ask, and what they expect as an answer.

routes.py  path -> which intake, by which format
influx.py, prometheus.py, otlp.py, mapped.py
           request -> readings, outcome -> answer, each as its programs have it
exchange.py  the steps of a request
door.py      the ASGI application
view.py      the same as a Django view
"""
