"""Measures a server, and sends what it finds to ThingScale or Servwatch.

To read it, follow a sample: metrics.py and background.py measure, agent.py gives it its time, buffer.py keeps
it on disk, sender.py sends it, through mqtt.py or http.py, and it leaves the disk once it is acknowledged.
"""

__version__ = "0.2.0"
