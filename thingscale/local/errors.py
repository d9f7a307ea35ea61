"""The error that keeps the platform from starting."""


class StartError(Exception):
    """Its text is one sentence for the person at the terminal, and never has a password."""
