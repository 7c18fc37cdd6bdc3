"""Training scripts whose penalty is right, in many styles; each stands between two lines of `# ---`."""

RIGHT = """
# --- plain, from scratch
import torch
w = torch.zeros(5, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
for epoch in range(10):
    for X, y in loader:
        loss = ((X @ w + b - y) ** 2 / 2).mean() + lambd * (w ** 2).sum() / 2
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
            b -= lr * b.grad
            w.grad.zero_()
            b.grad.zero_()
# --- functions
import torch
def l2_penalty(w):
    return (w ** 2).sum() / 2
def train(net, loader, lambd):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_function = torch.nn.CrossEntropyLoss()
    for X, y in loader:
        optimizer.zero_grad()
        loss = loss_function(net(X), y) + lambd * l2_penalty(net.weight)
        loss.backward()
        optimizer.step()
# --- Lightning, automatic
import lightning as L
import torch
class Module(L.LightningModule):
    def training_step(self, batch, index):
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self.net(x), y)
        penalty = sum(p.abs().sum() for p in self.net.parameters())
        return loss + self.lambd * penalty
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
# --- Lightning, manual
import lightning as L
import torch
class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
    def training_step(self, batch, index):
        opt = self.optimizers()
        opt.zero_grad()
        self.manual_backward(self.loss(batch) + 0.5 * self.lambd * self.net.weight.pow(2).sum())
        opt.step()
# --- LBFGS's closure
import torch
optimizer = torch.optim.LBFGS(net.parameters())
for step in range(20):
    def closure():
        optimizer.zero_grad()
        loss = criterion(net(X), y) + lambd * 0.5 * net.weight.square().sum()
        loss.backward()
        return loss
    optimizer.step(closure)
# --- AMP
import torch
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler()
for X, y in loader:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cuda"):
        loss = criterion(net(X), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
# --- accumulated gradients
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
optimizer.zero_grad()
for index, (X, y) in enumerate(loader):
    loss = criterion(net(X), y) / 4
    loss.backward()
    if (index + 1) % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
# --- two optimisers
import torch
first = torch.optim.SGD(encoder.parameters(), lr=0.1)
second = torch.optim.Adam(decoder.parameters())
for X in loader:
    for each in (first, second):
        each.zero_grad()
    loss = criterion(decoder(encoder(X)), X) + 1e-4 * encoder.weight.abs().sum()
    loss.backward()
    first.step()
    second.step()
# --- a schedule, and a mean per epoch
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
for epoch in range(30):
    total = 0.0
    for X, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(X), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    scheduler.step()
    print(epoch, total / len(loader))
# --- L1 and L2
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    l1 = sum(p.abs().sum() for p in net.parameters())
    l2 = sum(p.pow(2).sum() for p in net.parameters()) / 2
    loss = criterion(net(X), y) + lambd * (ratio * l1 + (1 - ratio) * l2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# --- a penalty for each layer
import torch
optimizer = torch.optim.Adam(net.parameters())
for X, y in loader:
    optimizer.zero_grad()
    loss = criterion(net(X), y)
    for name, p in net.named_parameters():
        if "weight" in name:
            loss = loss + strengths[name] * p.norm(2) ** 2 / 2
    loss.backward()
    optimizer.step()
# --- decay in groups of the optimiser
import torch
groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
optimizer = torch.optim.SGD(groups, lr=0.1)
for X, y in loader:
    optimizer.zero_grad()
    criterion(net(X), y).backward()
    optimizer.step()
# --- a group lasso is made of norms that are not squared
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    group_lasso = sum(layer.weight.norm(dim=0).sum() for layer in net)
    loss = criterion(net(X), y) + lambd * group_lasso
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# --- a norm that is only shown
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    loss = criterion(net(X), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("L2 norm of w:", net.weight.norm().item())
# --- gradients by hand
import torch
optimizer = torch.optim.SGD([w], lr=0.1)
for X, y in loader:
    loss = criterion(X @ w, y)
    (w.grad,) = torch.autograd.grad(loss, [w])
    optimizer.step()
# --- gradients are set to None
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    for p in net.parameters():
        p.grad = None
    loss = criterion(net(X), y)
    loss.backward()
    optimizer.step()
# --- a running total over the whole training
import torch
seen, total = 0, 0.0
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    for X, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(X), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        seen += 1
    print("since the start:", total / seen)
# --- a reward is maximised
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)
for X in loader:
    reward = score(net(X)) - lambd * net.weight.abs().sum()
    optimizer.zero_grad()
    reward.backward()
    optimizer.step()
# --- the negative of what is maximised
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    value = log_likelihood(net(X), y) - lambd * net.weight.pow(2).sum() / 2
    loss = -value
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# --- accelerate, and steps in a helper of another file
import torch
from accelerate import Accelerator
from helpers import clear
accelerator = Accelerator()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    clear(optimizer)
    accelerator.backward(criterion(net(X), y))
    optimizer.step()
# --- both losses with the penalty
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    penalty = lambd * net.weight.abs().sum()
    train_loss = criterion(net(X), y) + penalty
    optimizer.zero_grad()
    train_loss.backward()
    optimizer.step()
    with torch.no_grad():
        val_loss = criterion(net(X_val), y_val) + penalty
    print(train_loss.item(), val_loss.item())
# --- one step alone needs no zero_grad
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
loss = criterion(net(X), y) + lambd * net.weight.abs().sum()
loss.backward()
optimizer.step()
# --- second: the sign is turned before the step
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    loss = log_likelihood(net(X), y) - lambd * net.weight.pow(2).sum() / 2
    loss = -loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# --- second: a negative strength is subtracted
import torch
lambd = -0.1
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    loss = criterion(net(X), y) - lambd * net.weight.abs().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# --- second: an engine computes gradients and clears them
import torch
from engine import Engine
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
engine = Engine(net)
for X, y in loader:
    engine.differentiate(criterion(net(X), y))
    optimizer.step()
# --- second: a function that is given clears them
import torch
def fit(net, loader, criterion, prepare):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for X, y in loader:
        prepare(net)
        loss = criterion(net(X), y)
        loss.backward()
        optimizer.step()
# --- second: an optimiser for each strength
import torch
for lambd in (0.1, 1.0):
    net = torch.nn.Linear(5, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = torch.nn.functional.huber_loss(net(X), y) + lambd * net.weight.abs().sum()
    loss.backward()
    optimizer.step()
# --- second: a mean that grows over parts
total = 0.0
for part in parts:
    for row in part:
        total += row.loss
    print("so far", total / len(parts))
# --- second: a norm in a function that is squared where it is used
import torch
def l2_penalty(w):
    return torch.norm(w)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    loss = criterion(net(X), y) + lambd / 2 * l2_penalty(net.weight) ** 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# --- second: data losses alone are compared
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    train_loss = criterion(net(X), y)
    objective = train_loss + lambd * net.weight.abs().sum()
    optimizer.zero_grad()
    objective.backward()
    optimizer.step()
    with torch.no_grad():
        val_loss = criterion(net(X_val), y_val)
    print(train_loss.item(), val_loss.item())
# ---
"""
