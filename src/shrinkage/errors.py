"""The error of a person's input, apart from the errors of a program."""


class InputError(ValueError):
    """What was asked for cannot be done. The message gives the value, the rule and the way out.

    It is shown as one line, without a traceback; every other exception is a defect and shows its own.
    """
