"""The one exception that a user is meant to read."""

TRACEBACK = "FEWSTEP_TRACEBACK"  # the environment's variable that has it shown where an error comes from
_MOST_CHARACTERS = 1000


class UserError(ValueError):
    """Something that the user gave cannot be used; the message says what was given and what is allowed.

    The message becomes one line that any terminal can print; of one that quotes something very long, the middle
    is left out.
    """

    def __init__(self, message: str = "") -> None:
        line = " ".join(message.splitlines()).encode("utf-8", "backslashreplace").decode("utf-8")
        if len(line) > _MOST_CHARACTERS:
            half = (_MOST_CHARACTERS - 3) // 2
            line = f"{line[:half]} … {line[-half:]}"
        super().__init__(line)


class FailedElsewhere(UserError):
    """What failed on another rank, which tells it."""
