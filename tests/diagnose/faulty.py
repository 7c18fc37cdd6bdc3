"""Training scripts with one fault each, in the line that ends with `# FAULT`; the first word names the rule."""

FAULTY = """
# --- sign: subtracted
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    optimizer.zero_grad()
    loss = criterion(net(X), y) - lambd * net.weight.abs().sum()  # FAULT
    loss.backward()
    optimizer.step()
# --- sign: subtracted in place, by name
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(X), y)
    l2 = sum(p.pow(2).sum() for p in net.parameters()) / 2
    loss -= 1e-3 * l2  # FAULT
    loss.backward()
    optimizer.step()
# --- sign: in a training step
import torch, lightning as L
class Module(L.LightningModule):
    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.mse_loss(self.net(x), y) - self.lambd * self.net.weight.abs().sum()  # FAULT
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
# --- zero_grad: never
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(10):
    for X, y in loader:
        loss = criterion(net(X), y)
        loss.backward()  # FAULT
        optimizer.step()
# --- zero_grad: never, in a function
from torch import optim
def fit(net, loader, criterion):
    optimizer = optim.Adam(net.parameters())
    for X, y in loader:
        criterion(net(X), y).backward()  # FAULT
        optimizer.step()
# --- backward: never
import torch
criterion = torch.nn.MSELoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    optimizer.zero_grad()
    loss = criterion(net(X), y) + lambd * net.weight.abs().sum()
    optimizer.step()  # FAULT
# --- accumulator: never reset
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
total = 0.0
for epoch in range(10):
    for X, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(X), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # FAULT
    print(epoch, total / len(loader))
# --- accumulator: never reset, kept in a list
import torch
def fit(net, loader, epochs):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    running, losses = 0.0, []
    for epoch in range(epochs):
        for X, y in loader:
            optimizer.zero_grad()
            loss = criterion(net(X), y)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(X)  # FAULT
        losses.append(running / len(loader.dataset))
# --- compared: in one line
import torch
criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(10):
    optimizer.zero_grad()
    train_loss = criterion(net(X), y) + lambd * net.weight.abs().sum()
    train_loss.backward()
    optimizer.step()
    with torch.no_grad():
        val_loss = criterion(net(X_val), y_val)
    print(epoch, train_loss.item(), val_loss.item())  # FAULT
# --- norm: not squared
import torch
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    optimizer.zero_grad()
    l2_penalty = net.weight.norm() / 2  # FAULT
    loss = criterion(net(X), y) + lambd * l2_penalty
    loss.backward()
    optimizer.step()
# --- norm: not squared, in a function
import torch
def l2_penalty(w):
    return torch.norm(w) / 2  # FAULT
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for X, y in loader:
    optimizer.zero_grad()
    loss = criterion(net(X), y) + lambd * l2_penalty(net.weight)
    loss.backward()
    optimizer.step()
# ---
"""
