"""What can keep the platform from starting."""


class StartError(Exception):
    """One clear sentence for the person at the terminal. Never holds a password."""
