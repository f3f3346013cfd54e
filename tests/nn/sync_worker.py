"""One process of a group: does everything that test_sync.py asks about, and writes down what came out.

    python sync_worker.py rank number-of-processes device folder

Also what the test compares with: the same cases with all rows in one process, and BatchRenorm.
"""

import copy
import itertools
import os
import pickle
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from batchfix.exceptions import BatchfixError
from batchfix.nn import BatchRenorm1d, BatchRenorm2d, BatchRenorm3d, Schedule, convert, freeze
from batchfix.nn.sync import SyncBatchRenorm1d, SyncBatchRenorm2d, SyncBatchRenorm3d, convert_sync_batchrenorm

ALONE = {2: BatchRenorm1d, 3: BatchRenorm1d, 4: BatchRenorm2d, 5: BatchRenorm3d}
TOGETHER = {2: SyncBatchRenorm1d, 3: SyncBatchRenorm1d, 4: SyncBatchRenorm2d, 5: SyncBatchRenorm3d}
SPLITS = {"6+2": (6, 2), "5+5": (5, 5), "4+0": (4, 0), "0+4": (0, 4), "1+0": (1, 0), "0+0": (0, 0)}
SPACE = {2: (), 3: (5,), 4: (3, 2), 5: (2, 1, 3)}
LIMITS = {
    "closed": {"r_max": 1.0, "d_max": 0.0},
    "open": {"r_max": 1e6, "d_max": 1e6, "momentum": None},
    "clipped": {"r_max": 1.1, "d_max": 0.2},
    "opening": {"r_max": Schedule((1, 1.0), (3, 2.0)), "d_max": Schedule((1, 0.0), (3, 1.0))},
}
STEPS, CHANNELS = 3, 4


@dataclass(frozen=True)
class Case:
    split: str
    ndim: int
    limits: str = "clipped"
    center: float = 0.0
    padding: float = 0.0
    dtype: torch.dtype = torch.float64

    def __str__(self):
        """Short, for the name of a test."""
        more = [f"{self.padding:.0%} padding"] * (self.padding > 0) + [str(self.dtype).removeprefix("torch.")] * (
            self.dtype != torch.float64
        )
        return " ".join([self.split, f"{self.ndim}-D", self.limits, f"at {self.center:g}", *more])

    def rows(self, rank):
        """The rows of a process, or all of them."""
        if rank is None:
            return slice(None)
        first = sum(SPLITS[self.split][:rank])
        return slice(first, first + SPLITS[self.split][rank])

    def data(self, rank=None):
        """x, what the loss weighs y by, and mask, at each step."""
        n, space, generator = sum(SPLITS[self.split]), SPACE[self.ndim], torch.Generator().manual_seed(self.ndim)
        for step in range(STEPS):
            x, weights = torch.randn(2, n, CHANNELS, *space, dtype=torch.float64, generator=generator)
            mask = torch.rand(n, *space, generator=generator) >= self.padding
            scale = torch.arange(1.0, CHANNELS + 1).reshape(-1, *[1] * len(space))
            x = (x * scale + step + self.center).to(self.dtype)
            yield tuple(v[self.rows(rank)] for v in (x, weights.to(self.dtype), mask))

    def layer(self, kinds, device="cpu"):
        """A layer that learned something."""
        torch.manual_seed(0)
        dtype = torch.float32 if self.dtype == torch.bfloat16 else self.dtype
        layer = kinds[self.ndim](CHANNELS, **LIMITS[self.limits], dtype=dtype)
        for values in (layer.weight.data, layer.bias.data, layer.running_var):
            values.uniform_(0.5, 2.0)
        layer.running_mean += self.center
        return layer.to(device)


CASES = [
    Case(*choice)
    for choice in itertools.product(("6+2", "5+5", "4+0", "0+4"), SPACE, LIMITS, (0.0, 1000.0), (0.0, 0.4))
] + [
    *(Case("1+0", 2, limits) for limits in LIMITS),
    *(Case("0+0", ndim, padding=padding) for ndim in SPACE for padding in (0.0, 0.4)),
    *(Case(split, 4, padding=1.0) for split in ("6+2", "4+0")),
    *(Case(split, 4, "open", dtype=torch.bfloat16) for split in ("6+2", "4+0")),
    *(Case(split, 4, "open", center=1000.0, dtype=torch.float32) for split in ("6+2", "4+0")),
]


def train(layer, case, rank=None, device="cpu"):
    """Three steps; outputs and gradients of x at each, gradients of the parameters, and the state at the end."""
    outputs, gradients = [], []
    for x, weights, mask in case.data(rank):
        x = x.to(device).requires_grad_()
        y = layer(x, *([mask.to(device)] if case.padding else []))
        (y * weights.to(device)).sum().backward()
        outputs.append(y.detach())
        gradients.append(x.grad)
    found = {"y": torch.stack(outputs), "dx": torch.stack(gradients)}
    found |= {name: p.grad for name, p in layer.named_parameters()} | dict(layer.named_buffers())
    return {name: value.cpu() for name, value in found.items()}


# ---- in a net


def a_net(norm):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5)
    )
    return convert(net.double(), norm, **({} if norm == "batch_norm" else {"r_max": 1.5, "d_max": 0.5}))


def train_net(net, rank=None, device="cpu", splits=("6+2", "4+0", "5+5")):
    """Steps on a mean over all rows, however they are spread; the state at the end."""
    optimizer, generator = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), torch.Generator().manual_seed(0)
    for split in splits:
        n, rows = sum(SPLITS[split]), Case(split, 4).rows(rank)
        x = torch.randn(n, 2, 4, 4, dtype=torch.float64, generator=generator)[rows].to(device)
        target = torch.randn(n, 5, dtype=torch.float64, generator=generator)[rows].to(device)
        loss = ((net(x) - target) ** 2).sum() / n
        optimizer.zero_grad()
        (loss if rank is None else loss * dist.get_world_size()).backward()
        optimizer.step()
    return {
        name.replace("_orig_mod.", "").replace("module.", ""): value.cpu() for name, value in net.state_dict().items()
    }


# ---- what else is asked about


def sentence(act, *given, **named):
    """What an error says."""
    try:
        act(*given, **named)
    except (BatchfixError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


@contextmanager
def listening():
    """Names of the messages that are exchanged."""
    heard = []

    def tell(name, act):
        def told(*given, **named):
            heard.append(name)
            return act(*given, **named)

        return told

    names = [n for n in dir(dist) if n.startswith(("all_", "reduce", "broadcast", "gather", "scatter", "send", "recv"))]
    acts = {name: tell(name, getattr(dist, name)) for name in names if callable(getattr(dist, name))}
    with patch.multiple(dist, **acts):
        yield heard


def messages(case, rank, device):
    layer, heard = case.layer(TOGETHER, device), {}
    x = next(case.data(rank))[0].to(device)
    with listening() as heard["forward"]:
        y = layer(x.requires_grad_())
    with listening() as heard["backward"]:
        y.sum().backward()
    with listening() as heard["x needs no gradient"]:
        layer(x.detach()).sum().backward()
    with listening() as heard["eval"]:
        layer.eval()(x).sum().backward()
    with listening() as heard["frozen"]:
        freeze(layer).train()(x).sum().backward()
    return heard


def own_group(case, rank, device):
    """A group of this process alone: its layer is BatchRenorm, and so is a copy of it."""
    groups = [dist.new_group([other]) for other in range(dist.get_world_size())]
    layer = SyncBatchRenorm2d(
        CHANNELS, **LIMITS[case.limits], process_group=groups[rank], device=device, dtype=case.dtype
    )
    layer.load_state_dict(case.layer(ALONE).state_dict())
    twin, x = copy.deepcopy(layer), next(case.data(rank))[0].to(device)
    y = case.layer(ALONE, device)(x)
    return {
        "equal": torch.equal(layer(x), y) and torch.equal(twin(x), y),
        "copied": twin.process_group is layer.process_group is groups[rank],
        "pickled": sentence(pickle.dumps, layer),
        "foreign": sentence(SyncBatchRenorm2d, 3, process_group=groups[1 - rank]),
        "changed": convert_sync_batchrenorm(twin).process_group is None and pickle.loads(pickle.dumps(twin)).training,
    }


def wrong_use(case, rank, device):
    """Each is refused before anything is sent."""
    layer, (x, _, mask) = case.layer(TOGETHER, device), next(case.data(rank))
    x = x.to(device).requires_grad_()
    whole = torch.compile(layer, backend="eager", fullgraph=True)
    with warnings.catch_warnings(action="ignore"):  # the compiler's own
        refused = sentence(whole, x)
    return {
        "twice": sentence(torch.autograd.grad, layer(x).square().sum(), x, create_graph=True),
        "transformed": sentence(torch.func.grad(lambda v: layer(v).sum()), x.detach()),
        "elsewhere": sentence(case.layer(TOGETHER, "meta"), x.detach().to("meta")),
        "channels": sentence(layer, x[:, :3]),
        "mask": sentence(layer, x, mask.float()),
        "whole graph": refused,
    }


def everything(rank, device):
    found = {"cases": {str(case): train(case.layer(TOGETHER, device), case, rank, device) for case in CASES}}
    case = Case("6+2", 4, "open")
    found["messages"] = {split: messages(Case(split, 4, "open"), rank, device) for split in ("6+2", "4+0")}
    found["own group"] = own_group(case, rank, device)

    net = convert_sync_batchrenorm(a_net("batch_renorm").to(device))
    found["net"] = train_net(DistributedDataParallel(net), rank, device)
    compiled = torch.compile(convert_sync_batchrenorm(a_net("batch_renorm").to(device)), backend="aot_eager")
    with warnings.catch_warnings(action="ignore"):  # the compiler's own
        found["compiled"] = train_net(DistributedDataParallel(compiled), rank, device)
    found["wrong"] = wrong_use(case, rank, device)
    return found


def main(rank, processes, device, folder):
    torch.set_num_threads(1)
    several = device == "cuda" and torch.cuda.device_count() >= processes
    if several:
        device = f"cuda:{rank}"
        torch.cuda.set_device(device)
    store = dist.FileStore(os.fspath(folder / "store"), processes)
    # a process that fails must not leave the other one waiting
    dist.init_process_group(
        "nccl" if several else "gloo", store=store, rank=rank, world_size=processes, timeout=timedelta(seconds=60)
    )
    try:
        torch.save(everything(rank, device), folder / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
