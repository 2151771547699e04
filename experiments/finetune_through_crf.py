"""Fine-tunes the package's own net with the CRF as its last layer, and without it.

    python experiments/finetune_through_crf.py DATA --minutes 4 --json result.json

DATA is the folder of voc_animals.md. For every seed two nets are trained from the package's
weights, on the same crops in the same order, with as many updates as --minutes allow the slower one
(or --updates): by the cross-entropy of the upsampled scores, and by that of the marginals of a
`DenseCRF` on these scores, whose parameters learn, too. Both losses see every --stride-th pixel of
the crop. Reported, of the package's net and of both, on every --val-every-th validation image: the
mean IoU of the scores alone, with the CRF of the package, and with the one that was learned.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional

from deeplab_native import CRFParams, dense_crf
from deeplab_native.data import VOID, SegmentationDataset
from deeplab_native.layers import DenseCRF
from deeplab_native.metrics import confusion_matrix, segmentation_scores
from deeplab_native.models import create_model
from deeplab_native.models.base import DeepLab
from deeplab_native.models.multi_scale import interp
from deeplab_native.training.loss import TrainingLoss
from deeplab_native.training.samples import TrainingSamples, collate
from deeplab_native.training.setup import open_data
from deeplab_native.weights import EMBEDDED, load_model

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from train_embedded import configuration  # noqa: E402

from _timing import machine_info, write_json  # noqa: E402

TIMED = 4  # first updates, whose speed says how many there will be
WARMUP = 10
ARMS = ("through the CRF", "cross-entropy")


class Run:
    """One net being trained."""

    def __init__(self, config: Any, dataset: SegmentationDataset, args: argparse.Namespace) -> None:
        self.args = args
        self.net = new_net(args).train()
        self.loss = TrainingLoss(self.net, config.loss, channels_last=True)
        self.net.to(memory_format=torch.channels_last)
        self.samples = TrainingSamples(dataset, config)
        self.crf: DenseCRF | None = None
        self.groups: list[dict[str, Any]] = [{"params": list(self.net.parameters()), "lr": args.lr}]

    def through(self, crf: DenseCRF) -> None:
        """The CRF is trained, too."""
        self.crf = crf.train()
        self.groups.append({"params": list(crf.parameters()), "lr": self.args.lr_crf})

    def train(self, updates: int | None, console: Console) -> dict[str, Any]:
        """None: as many as the first ones say that the minutes allow."""
        optimizer = torch.optim.Adam(self.groups, betas=(0.9, 0.99))
        rates = [group["lr"] for group in optimizer.param_groups]
        losses: list[float] = []
        start = time.perf_counter()
        numbers = range(updates or 10**6)
        for number in track(numbers, "updates", total=updates, console=console):
            if updates is None and number == TIMED:
                each = (time.perf_counter() - start) / TIMED
                updates = max(TIMED + 1, int(60 * self.args.minutes / each))
            if number == updates:
                break
            share = number / (updates or 10**6)
            # up for the first WARMUP updates, then down along half a cosine
            factor = min(1, (number + 1) / WARMUP) * (1 + math.cos(math.pi * share)) / 2
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            loss = self.loss_of(number)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        tenth = max(1, len(losses) // 10)
        parts = [losses[i : i + tenth] for i in range(0, len(losses), tenth)]
        return {
            "seconds": round(time.perf_counter() - start, 1),
            "updates": len(losses),
            "losses": [round(sum(part) / len(part), 4) for part in parts],
        }

    def loss_of(self, number: int) -> torch.Tensor:
        size = self.args.batch
        batch = collate([self.samples[number * size + i] for i in range(size)])
        if not isinstance(batch, tuple):
            raise batch
        scores = interp(self.net(self.loss.prepare(batch)), batch.labels.shape[1:])
        some = (..., slice(None, None, self.args.stride), slice(None, None, self.args.stride))
        labels = batch.labels[some].long()
        scores = scores[some]
        if self.crf is None:
            return functional.cross_entropy(scores, labels, ignore_index=VOID)
        log_q = self.crf(scores, batch.images[some].contiguous())
        return functional.nll_loss(log_q, labels, ignore_index=VOID)


def new_net(args: argparse.Namespace) -> DeepLab:
    """The package's, at another output stride: the same weights, at other rates."""
    package = load_model(EMBEDDED)
    net = create_model(package.name, package.num_classes, output_stride=args.output_stride)
    net.load_state_dict(package.state_dict())
    net.preprocessing = package.preprocessing
    return net


@torch.no_grad()
def evaluate(
    net: DeepLab, dataset: SegmentationDataset, crfs: dict[str, CRFParams], console: Console
) -> dict[str, Any]:
    """Mean IoU in percent of the scores alone and with each CRF, at the images' own sizes."""
    size = net.num_classes
    counts = {n: torch.zeros(size, size, dtype=torch.int64) for n in ("scores", *crfs)}
    net.eval()
    for i in track(range(len(dataset)), "evaluating", console=console):
        sample = dataset[i]
        image = sample.image[None]
        scores = interp(net(net.preprocessing(image)), image.shape[2:])
        labels = {"scores": scores.argmax(1)}
        for name, params in crfs.items():
            labels[name] = dense_crf(-scores, image, params).argmax(1)
        for name, predicted in labels.items():
            counts[name] += confusion_matrix(sample.labels, predicted[0], size)
    return {n: round(100 * segmentation_scores(c).mean_iou, 2) for n, c in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, help="also write the result there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--minutes", type=float, default=4, help="of a net trained through the CRF")
    parser.add_argument("--updates", type=int, help="instead of --minutes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=257)
    parser.add_argument("--stride", type=int, default=2, help="pixels, of the loss and the CRF")
    parser.add_argument("--output-stride", type=int, default=16, help="of the net")
    parser.add_argument("--lr", type=float, default=1e-5, help="of the net")
    parser.add_argument("--lr-crf", type=float, default=0.02, help="of the logarithms")
    parser.add_argument("--val-every", type=int, default=1, help="every N-th image")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console(highlight=False)
    package = load_model(EMBEDDED).crf
    assert package is not None
    changes = [f"data.root={args.data.resolve()}", f"augmentation.crop={args.crop}"]
    data = open_data(configuration(HERE / "embedded.yaml", changes))
    assert data.val is not None
    val = data.val
    val.entries = val.entries[:: args.val_every]

    results: dict[str, Any] = {
        "package": {"mean_iou": evaluate(new_net(args), val, {"package": package}, console)}
    }
    for seed in args.seeds:
        config = configuration(HERE / "embedded.yaml", [*changes, f"seed={seed}"])
        updates = args.updates
        for arm in ARMS:
            run = Run(config, data.train, args)
            crfs = {"package": package}
            if arm == ARMS[0]:
                run.through(
                    DenseCRF(
                        package,
                        trainable=("w1", "sigma_alpha", "sigma_beta", "w2"),
                        spacing=args.stride,
                    )
                )
            outcome = run.train(updates, console)
            updates = outcome["updates"]
            if run.crf is not None:
                crfs["learned"] = run.crf.params
                outcome["params"] = vars(run.crf.params)
            outcome["mean_iou"] = evaluate(run.net, val, crfs, console)
            results[f"{arm}, seed {seed}"] = outcome
            console.print(arm, seed, outcome)

    table = Table("", "updates", "s", "scores", "package's CRF", "learned CRF")
    for name, outcome in results.items():
        ious = outcome["mean_iou"]
        row = [outcome.get("updates", ""), outcome.get("seconds", "")]
        row += [ious.get(n, "") for n in ("scores", "package", "learned")]
        table.add_row(name, *map(str, row))
    console.print(table)
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("data", "json")}
        record = {"machine": machine_info(), "images": len(val), "settings": settings}
        write_json(args.json, {**record, "results": results})


if __name__ == "__main__":
    main()
