"""A residual network for small images."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from shrinkage.checks import Whole, Wholes, check

from .inputs import Inputs, pixels


class Block(nn.Module):
    """x + two normalised 3 × 3 convolutions of it; where the shape changes, x goes through a 1 × 1 convolution."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:  # [n, channels, h, w] → [n, width, h/stride, w/stride]
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Sequential):
    """A residual network: stages of residual blocks with batch normalisation.

    x [n, channels, height, width] → [n, outputs]. widths: channels of each stage; each but the first begins with half
    as many pixels to a side. blocks: how many blocks a stage has. Reference: He et al. (2016), "Deep residual learning
    for image recognition", §4.2 (there widths are [16, 32, 64], and blocks=3 is ResNet-20).
    """

    def __init__(self, inputs: Inputs, outputs: int, widths: Sequence[int], blocks: int) -> None:
        channels, *_ = pixels(inputs)
        check("model.widths", widths, Wholes(1), "use model.widths=[16,32,64]")
        check("model.blocks", blocks, Whole(1), "use model.blocks=3")
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])]
        layers.append(nn.ReLU())
        channels = widths[0]
        for stage, width in enumerate(widths):
            for number in range(blocks):
                layers.append(Block(channels, width, stride=2 if stage > 0 and number == 0 else 1))
                channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))
