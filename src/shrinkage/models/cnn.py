"""A small convolutional network."""

from collections.abc import Sequence

from torch import nn

from shrinkage.checks import Wholes, check

from .inputs import Inputs, pixels


class CNN(nn.Sequential):
    """A chain of 3 × 3 convolutions of the given widths, each followed by ReLU, and a linear layer.

    x [n, channels, height, width] → [n, outputs]. Between them pixels are taken two by two (max pooling), while there
    are two; after the last one comes the mean over all pixels, and the linear layer. batch_norm: normalises the output
    of every convolution over the batch (Ioffe & Szegedy 2015), so that its weights' length has no effect but on the
    effective learning rate. PyTorch's own initial weights.
    """

    def __init__(self, inputs: Inputs, outputs: int, widths: Sequence[int], batch_norm: bool) -> None:
        channels, *size = pixels(inputs)
        check("model.widths", widths, Wholes(1), "use model.widths=[16,32]")
        layers: list[nn.Module] = []
        for number, width in enumerate(widths):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            if number < len(widths) - 1 and min(size) >= 2:
                layers.append(nn.MaxPool2d(2))
                size = [length // 2 for length in size]
            channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))
