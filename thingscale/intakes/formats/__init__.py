"""Payloads of other people's programs -> readings, a module for each format. Pure."""
