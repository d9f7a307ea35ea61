"""Shows bytes that devices sent or get to people."""

from codecs import getincrementaldecoder


def excerpt(payload: bytes) -> str:
    """As text if it is readable, else in hex. `payload` may have been cut within a character."""
    try:
        text = getincrementaldecoder("utf-8")().decode(payload)
    except UnicodeDecodeError:
        return payload.hex(" ")
    readable = all(character.isprintable() or character in "\r\n\t" for character in text)
    return text if readable else payload.hex(" ")
