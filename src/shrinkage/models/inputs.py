"""What a model is given, told by the data: numbers, [channels, height, width] of images, or [context] of text."""

from collections.abc import Sequence

from shrinkage.errors import InputError

Inputs = int | Sequence[int]


def numbers(inputs: Inputs) -> int:
    """How many numbers a row has. Raises InputError where rows are images or text."""
    if not isinstance(inputs, int):
        raise InputError(f"this model reads rows of numbers, and these data are {kind(inputs)}; {way_out(inputs)}")
    return inputs


def pixels(inputs: Inputs) -> tuple[int, int, int]:
    """Channels, height and width. Raises InputError where rows are no images."""
    if isinstance(inputs, int) or len(inputs) != 3:
        raise InputError(f"this model reads images, and these data are {kind(inputs)}; {way_out(inputs)}")
    return tuple(inputs)


def context(inputs: Inputs) -> int:
    """The length of a window of text. Raises InputError where rows are none."""
    if isinstance(inputs, int) or len(inputs) != 1:
        raise InputError(f"this model reads text, and these data are {kind(inputs)}; {way_out(inputs)}")
    return inputs[0]


def kind(inputs: Inputs) -> str:
    if isinstance(inputs, int):
        return f"rows of {inputs} numbers"
    return f"text, {inputs[0]} bytes a window" if len(inputs) == 1 else f"images, {' × '.join(map(str, inputs))}"


def way_out(inputs: Inputs) -> str:
    if isinstance(inputs, int):
        return "use model=linear or model=mlp, or data=digits_images or data=text"
    if len(inputs) == 1:
        return "use model=gpt"
    return "use model=cnn or model=resnet, or data.flat=true for rows of numbers"


def check_sizes(sizes: object, key: str, example: str) -> None:
    """Raises InputError unless they are whole numbers > 0, at least one."""
    if not isinstance(sizes, list | tuple) or not sizes or not all(type(n) is int and n > 0 for n in sizes):
        raise InputError(f"{key}={sizes}: must be whole numbers > 0; use {key}={example}")
