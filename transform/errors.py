"""The error that every Tandem command turns into one clear line."""


class TandemError(Exception):
    """Something the user can mend: the message says what was received, what was expected and what to do.

    Attributes:
      exit_status: what a command that ends with it ends with; 0 where it is no failure.
    """

    exit_status = 2
