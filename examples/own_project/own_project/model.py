"""A model of two inputs."""

from torch import nn


class TwoTowers(nn.Module):
    """A visitor and a page are each mapped to a few numbers, whose products are added up.

    A batch is a dict, and `inputs` says how many numbers a row of each of its tensors has.
    """

    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.visitor = nn.Linear(inputs["visitor"], width)
        self.page = nn.Linear(inputs["page"], width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(self.visitor(x["visitor"]) * self.page(x["page"]))
