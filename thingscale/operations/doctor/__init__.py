"""`manage.py doctor`: says what is wrong with an installation, and what to do about it.

Each check is a function that yields findings; they are listed in examination.py, which runs them.
"""
