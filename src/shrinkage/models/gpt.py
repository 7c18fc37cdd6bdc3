"""A transformer that predicts the next token, in the style of GPT-2."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from shrinkage.checks import SHARE, Whole, check
from shrinkage.errors import InputError

from .inputs import Inputs, context

SPREAD = 0.02  # standard deviation of the initial weights, as GPT-2 has it


class Attention(nn.Module):
    """Causal self-attention of several heads."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # [n, T, width] → the same
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [n, heads, T, width/heads]
            for part in self.qkv(x).chunk(3, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a perceptron of four times the width, each added to what it is given, normalised before."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, dropout)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """A transformer gives, for every token of a text, the logits of the token that follows.

    Tokens [n, T ≤ context] → logits [n, T, outputs]. inputs: [context], in tokens. outputs: how many tokens there are;
    the embedding's matrix [outputs, width] makes the logits too (weight tying), and is one parameter. Normalisation
    comes before attention and perceptron. Weights begin as N(0, .02²), those that write to the residual stream as N(0,
    .02²/(2·layers)), biases at 0.

    Raises InputError if a size or the dropout cannot be used. Reference: Radford et al. (2019), "Language models are
    unsupervised multitask learners".
    """

    def __init__(self, inputs: Inputs, outputs: int, layers: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        for key, value, example in (("layers", layers, 2), ("heads", heads, 2), ("width", width, 64)):
            check(f"model.{key}", value, Whole(1), f"use model.{key}={example}")
        if width % heads:
            raise InputError(
                f"model.width={width} model.heads={heads}: each head has an equal share of the width; use "
                f"model.width={-(-width // heads) * heads}"
            )
        check("model.dropout", dropout, SHARE, "use model.dropout=0 for none")
        self.embedding = nn.Embedding(outputs, width)
        self.position = nn.Embedding(context(inputs), width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=SPREAD / math.sqrt(2 * layers) if writes else SPREAD)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]  # [n, T, width]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)
