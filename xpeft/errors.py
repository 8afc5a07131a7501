"""Errors a user can act on.

Every message says what was found, what was expected, where, and what to do. The
command line prints the message on one line and exits with 2; a traceback means a
bug in xpeft itself.
"""


class XpeftError(Exception):
    """Base of all errors that xpeft raises on purpose."""


class ConfigError(XpeftError):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(XpeftError):
    """A data file is missing, unreadable, or not what its task says."""


class BankError(XpeftError):
    """A bank is missing, damaged, or does not fit the encoder or the profile."""


class EncoderError(XpeftError):
    """An encoder cannot be loaded or its architecture is not supported."""


class CodecError(XpeftError):
    """A mask code is damaged or does not fit the shape it is read with."""


class RecordError(XpeftError):
    """A record is damaged or does not follow the record schema."""


class StoreError(XpeftError):
    """A profile store is missing, damaged or locked, or does not fit what it is used with."""


def show(value: object) -> str:
    """A value of the user's data as a message shows it, short."""
    if value is None:
        return "nothing (null)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
