"""The chapter's problem as a plain Lightning loop over λ's with MLFlowLogger: the same metrics after every epoch.

python plain_lightning.py EPOCHS STORE FOLDER [λ,λ,…]
"""

import sys

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import MLFlowLogger
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)


def data(rows: int) -> TensorDataset:
    x = torch.randn(rows, 200)
    return TensorDataset(x, x @ torch.full((200,), 0.01) + 0.05 + 0.01 * torch.randn(rows))


class Ridge(L.LightningModule):
    def __init__(self, lambd: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net, self.lambd = torch.nn.Linear(200, 1), lambd
        torch.nn.init.normal_(self.net.weight, std=0.01)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return (self.net(x)[:, 0] - y).square().mean() / 2 + self.lambd * self.net.weight.square().sum() / 2

    def validation_step(self, batch, batch_idx):
        x, y = batch
        residual = self.net(x)[:, 0] - y
        loss = residual.square().mean() / 2
        r2 = 1 - residual.square().sum() / (y - y.mean()).square().sum()
        self.log_dict({"val/loss": loss, "val/r2": r2, "val/rmse": (2 * loss).sqrt(), "val/mae": residual.abs().mean()})

    def on_train_epoch_end(self):
        x, y = train.tensors
        w = self.net.weight.detach()
        squared = w.square().sum()
        with torch.no_grad():
            loss = (self.net(x)[:, 0] - y).square().mean() / 2
        penalty = self.lambd * squared / 2
        self.log_dict({"train/loss": loss, "train/penalty": penalty, "train/objective": loss + penalty})
        self.log_dict({"weight/l1": w.abs().sum(), "weight/l2": squared.sqrt(), "weight/half_squared_l2": squared / 2})
        self.log_dict({"weight/linf": w.abs().max(), "weight/zeros": (w == 0).float().mean()})
        self.log("bias/l2", self.net.bias.detach().abs().sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


L.seed_everything(0)
train, val = data(20), data(100)
epochs, uri, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
for run, lambd in enumerate(map(float, (sys.argv[4] if len(sys.argv) > 4 else "3").split(","))):
    L.seed_everything(run)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=MLFlowLogger("plain", run_name=f"l2 {lambd}", tracking_uri=uri),
        log_every_n_steps=1,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    trainer.fit(Ridge(lambd), DataLoader(train, batch_size=5, shuffle=True), DataLoader(val, batch_size=100))
