"""The configuration of a training run: every number of the recipe, checked before work starts.

The defaults are the paper's (DeepLab v2, section 4.1, and the authors' solver files). A YAML file
says what is otherwise; `extends: other.yaml` begins with another file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..data import DATASETS
from ..models.multi_scale import check_scales

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    # frozen: a run is what its file says; strict: "1e-3", which YAML takes for a text, or true for
    # a number are named instead of guessed at
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(_Section):
    """The net, see `models.create_model`.

    Attributes:
        name, options, scales: its arguments. With several scales it is trained on the losses of
            each and of the fused map (the paper's "MSC").
        weights, source, new_layers: what it starts from, see `weights.load`.
        imagenet_trunk: .npz of MobileNetV2 instead, see `weights.mobilenet_v2`.
    """

    name: str
    options: dict[str, Any] = {}
    scales: tuple[float, ...] = Field(default=(1.0,), strict=False)
    weights: str | None = None
    source: str | None = None
    new_layers: Literal["classifier", "head"] | None = None
    imagenet_trunk: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Model:
        check_scales(self.scales)
        if self.weights is not None and self.imagenet_trunk is not None:
            raise ValueError("weights and imagenet_trunk: expected one of them")
        return self


class Data(_Section):
    """The data set, see `data.open_dataset`.

    Attributes:
        dataset, root, options: its arguments; `root` may come from the command line.
        train, val: splits; `val` None trains without looking.
        on_bad_sample: "stop" at a photograph or labels that cannot be used, or "skip": another
            sample is taken for it, and the end of the run names them.
        workers: processes that read and augment; 0 does it between the steps.
        on_device: photographs and labels are decoded once, kept on the device in 8 bits, and
            augmented there; `workers` is for nothing then.
        device_memory: GB (10^9 bytes) that they may take, and at most half of what is free there;
            where they need more, the run says so and reads them as without `on_device`.
    """

    dataset: str
    root: str | None = None
    train: str | None = "train"
    val: str | None = "val"
    options: dict[str, Any] = {}
    on_bad_sample: Literal["stop", "skip"] = "stop"
    workers: CountOrNone = 0
    on_device: bool = False
    device_memory: Positive = 8.0

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.dataset not in DATASETS:
            raise ValueError(f"dataset: expected one of {', '.join(DATASETS)}")
        return self


class Augmentation(_Section):
    """What is done to a sample; the authors' data layer.

    Attributes:
        crop: side of the square crops, smaller images are padded at the bottom and the right with
            the mean colour and void; 8 m + 1 gives score maps whose pixels are image pixels.
        scales: of the image, one drawn for every sample; sizes are cut to integers.
        scale_range: (least, most), drawn uniformly, instead of `scales`.
        mirror: every other sample.
        brightness: 0.1 adds up to +-10 % of white.
        contrast: 0.1 multiplies the distance to mid-grey by 0.9 to 1.1.
    """

    crop: Count = 321
    scales: tuple[Positive, ...] = Field(
        default=(0.5, 0.75, 1.0, 1.25, 1.5), strict=False, min_length=1
    )
    scale_range: tuple[Positive, Positive] | None = Field(default=None, strict=False)
    mirror: bool = True
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Augmentation:
        if self.scale_range is not None and self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range: expected (least, most), got {self.scale_range}")
        return self


class Multiplier(_Section):
    """Of a group of parameters: `lr` of the learning rate, `decay` of the weight decay."""

    lr: NotNegative
    decay: NotNegative


class Optimizer(_Section):
    """Caffe's SGD, see `optimizer.CaffeSGD`; the groups of `optimizer.parameter_groups`.

    Attributes:
        clip: the norm of all gradients together is cut to this; None leaves it.
    """

    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 5e-4
    clip: Positive | None = None
    trunk_weight: Multiplier = Multiplier(lr=1, decay=1)
    trunk_bias: Multiplier = Multiplier(lr=2, decay=0)
    classifier_weight: Multiplier = Multiplier(lr=10, decay=1)
    classifier_bias: Multiplier = Multiplier(lr=20, decay=0)


class HeadFirst(_Section):
    """The head alone, before the schedule: no gradient is computed in the trunk.

    Attributes:
        iterations: how many, 0 for none; they are not among those of the schedule.
        lr: constant; None takes the optimizer's.
    """

    iterations: CountOrNone = 0
    lr: Positive | None = None


class Schedule(_Section):
    """Learning rate at every iteration, see `schedule.learning_rate`.

    Attributes:
        iterations: updates of the weights.
        policy: "poly", lr (1 - i / iterations)^power; "step", lr gamma^floor(i / step);
            "constant".
        warmup: iterations in which the rate rises linearly.
    """

    iterations: Count = 20000
    policy: Literal["poly", "step", "constant"] = "poly"
    power: Positive = 0.9
    step: Count = 2000
    gamma: Positive = 0.1
    warmup: CountOrNone = 0
    head_first: HeadFirst = HeadFirst()


class Loss(_Section):
    """Softmax cross-entropy without void pixels.

    Attributes:
        at: "score map", against every 8th label (the paper's), or "input", of the scores
            interpolated to the size of the input.
        normalization: a sum over pixels is divided by their number in all images of a forward
            pass ("batch", Caffe's for a batch), or in each image, and the images averaged
            ("image", Caffe's for batches of 1 with iter_size).
    """

    at: Literal["score map", "input"] = "score map"
    normalization: Literal["batch", "image"] = "batch"


class Validation(_Section):
    """Mean IoU on `data.val`, single scale, without CRF.

    Attributes:
        every: iterations; also at the end. None: only at the end.
        images: that many, evenly spread over the split; None takes all. At the end, too.
        scale: of the images in the net; 0.5 is the half resolution of Table 9.
        pictures: of so many of them, photograph, labels and prediction are written.
    """

    every: Count | None = 1000
    images: Count | None = None
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    pictures: CountOrNone = 4


class Checkpoints(_Section):
    """What a run can go on from, see `checkpoints`.

    Attributes:
        every: iterations between them; there is one before every validation, too, and at the end.
        keep: that many of the last are kept.
    """

    every: Count = 500
    keep: Annotated[int, Field(ge=2)] = 2


class CRF(_Section):
    """Of `CRFParams`: it goes into the weights file, nothing is trained with it."""

    w1: NotNegative
    sigma_alpha: Positive
    sigma_beta: Positive
    w2: NotNegative
    sigma_gamma: Positive


class Paper(_Section):
    """What the paper reports for this configuration.

    Attributes:
        row: table and row.
        miou, miou_crf: mean IoU in %, before and after the CRF; None where it has none.
        note: what the paper leaves open, and how it was decided.
    """

    row: str
    miou: float | None = None
    miou_crf: float | None = None
    note: str = ""


class Config(_Section):
    """A training run.

    Attributes:
        batch: images of an update, over all processes.
        accumulate: forward passes that a process splits its part of the batch into (iter_size).
        ema: decay of the moving average of the weights, which is then validated and saved; None
            takes the weights themselves.
        precision: "32", or "bf16": bfloat16 autocast.
        devices, nodes: processes of this machine ("auto": all GPUs, else one process), machines.
        accelerator: "auto", "cpu" or "cuda".
        threads: CPU threads of a process; None leaves PyTorch's.
        channels_last: memory layout; faster on CPUs, and on GPUs with tensor cores.
        graph: an update is recorded once as a CUDA graph and replayed, which takes a fraction of
            the time of starting its kernels one by one. It needs `data.on_device`. On a CPU, with
            several processes, or where the net cannot be recorded, it changes nothing.
        log_every: iterations between lines of the logs, which show means over them.
        seed: of order, augmentation, new layers and dropout.
    """

    model: Model
    data: Data
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()
    batch: Count = 10
    accumulate: Count = 1
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["32", "bf16"] = "32"
    devices: Count | Literal["auto"] = "auto"
    nodes: Count = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count | None = None
    channels_last: bool = True
    graph: bool = False
    log_every: Count = 20
    seed: CountOrNone = 0
    crf: CRF | None = None
    paper: Paper | None = None

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.batch % self.accumulate:
            raise ValueError(
                f"accumulate: expected a divisor of batch {self.batch}, got {self.accumulate}"
            )
        if self.graph and not self.data.on_device:
            raise ValueError("graph: needs data.on_device (set it, or leave graph out)")
        return self

    @property
    def iterations(self) -> int:
        """All updates, those of the head alone included."""
        return self.schedule.head_first.iterations + self.schedule.iterations
