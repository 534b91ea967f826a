"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """Something that the user gave cannot be used; the message says what was given and what is allowed."""
