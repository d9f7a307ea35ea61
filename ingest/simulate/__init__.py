"""Simulated devices that send through the real connectors: `manage.py simulate`."""
