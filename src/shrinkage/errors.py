"""The error of a person's input, apart from the errors of a program."""


class InputError(ValueError):
    """What was asked for cannot be done. The message gives the value, the rule and the way out.

    It is shown as one line, without a traceback; every other exception is a defect and shows its own. What no line can
    show of a name or a value, control characters and marks of the direction of writing, is written as \\n or \\u202e.
    """

    def __init__(self, words: str) -> None:
        line = " ".join(words.splitlines())
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


class TrackingError(Exception):
    """The store cannot be reached; what was recorded lies in the journal."""
