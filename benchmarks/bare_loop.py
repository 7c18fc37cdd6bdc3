"""The chapter's problem in a bare PyTorch loop: the same metrics computed after every epoch, nothing tracked."""

import sys

import torch

torch.manual_seed(0)
torch.set_num_threads(1)


def data(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, 200)
    return x, x @ torch.full((200,), 0.01) + 0.05 + 0.01 * torch.randn(rows)


def measure(w: torch.Tensor, b: torch.Tensor, lambd: float) -> dict[str, float]:
    measured = {}
    for part, (x, y) in (("train", train), ("val", val)):
        residual = x @ w + b - y
        loss = residual.square().mean() / 2
        measured[f"{part}/loss"] = loss
        if part == "val":
            measured["val/r2"] = 1 - residual.square().sum() / (y - y.mean()).square().sum()
            measured["val/rmse"], measured["val/mae"] = (2 * loss).sqrt(), residual.abs().mean()
    squared = w.square().sum()
    measured["train/penalty"] = lambd * squared / 2
    measured["train/objective"] = measured["train/loss"] + measured["train/penalty"]
    measured |= {"weight/l1": w.abs().sum(), "weight/l2": squared.sqrt(), "weight/half_squared_l2": squared / 2}
    measured |= {"weight/linf": w.abs().max(), "weight/zeros": (w == 0).float().mean(), "bias/l2": b.abs()}
    return {name: value.item() for name, value in measured.items()}


train, val = data(20), data(100)
w = (0.01 * torch.randn(200)).requires_grad_()
b = torch.zeros((), requires_grad=True)
optimizer = torch.optim.SGD([w, b], lr=0.01)
history = []
for _ in range(int(sys.argv[1])):
    for rows in torch.randperm(20).split(5):
        x, y = train[0][rows], train[1][rows]
        loss = (x @ w + b - y).square().mean() / 2 + 3 * w.square().sum() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        history.append(measure(w, b, 3.0))
print(history[-1])
