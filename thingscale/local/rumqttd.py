"""Runs the MQTT broker of the iotcore wheel in this process: rumqttd.py CONFIG.toml

Run by path, so that it loads nothing of the platform.
"""

import logging
import os
import signal
import sys
import threading
import time

from iotcore.iotcore import IotCoreBroker


def main(config: str) -> None:
    # Its tracing spans arrive as an ERROR record for every packet.
    logging.getLogger().setLevel(logging.CRITICAL)
    # Python's own handler would not run while native code does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with, args=[os.getppid()], daemon=True).start()
    broker = IotCoreBroker(config_path=config)
    broker.check_ports()
    broker.run_forever()


def _die_with(parent: int) -> None:
    """For systems whose kernel doesn't do it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
