"""The error that every Tandem command turns into one clear line."""


class TandemError(Exception):
    """Something the user can mend: the message says what was received, what was expected and what to do."""
