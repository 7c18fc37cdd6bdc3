"""The shape of a row: how many numbers, [channels, height, width] of an image, or [context] of a text.

Rows of several inputs have a dict of such shapes, by the inputs' names or places.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from shrinkage.errors import InputError

Inputs = int | Sequence[int] | Mapping[Any, Any]


def numbers(inputs: Inputs) -> int:
    """Read how many numbers a row has. Raises InputError if rows are images or text."""
    if not isinstance(inputs, int):
        raise unread("rows of numbers", inputs)
    return inputs


def pixels(inputs: Inputs) -> tuple[int, int, int]:
    """Read channels, height and width. Raises InputError if rows are no images."""
    if isinstance(inputs, int | Mapping) or len(inputs) != 3:
        raise unread("images", inputs)
    channels, height, width = inputs
    return channels, height, width


def context(inputs: Inputs) -> int:
    """Read the length of a window of text. Raises InputError if rows are no text."""
    if isinstance(inputs, int | Mapping) or len(inputs) != 1:
        raise unread("text", inputs)
    return inputs[0]


def unread(what: str, inputs: Inputs) -> InputError:
    return InputError(f"this model reads {what}, and these data are {describe(inputs)}; {way_out(inputs)}")


def describe(inputs: Inputs) -> str:
    if isinstance(inputs, int):
        return f"rows of {inputs} numbers"
    if isinstance(inputs, Mapping):
        return f"rows of {len(inputs)} inputs ({', '.join(map(str, inputs))})"
    return f"text, {inputs[0]} bytes a window" if len(inputs) == 1 else f"images, {' × '.join(map(str, inputs))}"


def way_out(inputs: Inputs) -> str:
    if isinstance(inputs, Mapping):
        return "use a model of your own that reads them"
    if isinstance(inputs, int):
        return "use model=linear or model=mlp, or data=digits_images or data=text"
    if len(inputs) == 1:
        return "use model=gpt"
    return "use model=cnn or model=resnet, or data.flat=true for rows of numbers"
