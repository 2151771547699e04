"""The recipes of docs/weak_supervision.md, run as they stand there: they learn what they should."""

import pytest
import torch
from torch import nn

from deeplab_native import ConstrainToBoundaryLoss, CRFParams, DenseCRFLoss, random_walk
from python_tests.docs.documents import ROOT, blocks

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def recipes():
    names = {}
    exec("\n".join(blocks((ROOT / "docs/weak_supervision.md").read_text(), "python")), names)
    return names


@pytest.fixture
def scene(set_threads):
    """(photos (1, 3, H, W), truth (1, H, W), a scribble in each of three shaded regions)."""
    set_threads(1)  # small tensors, on a machine that may be busy
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    truth = ((x / WIDTH - 0.33) ** 2 / 0.0576 + (y / HEIGHT - 0.5) ** 2 / 0.1444 < 1).long()
    truth[(x > 0.66 * WIDTH) & (y > 0.3 * HEIGHT)] = 2
    colours = torch.tensor([[60.0, 80, 120], [190, 150, 60], [90, 160, 70]])
    shade = torch.stack([x / WIDTH * 50 - 25, 25 - y / HEIGHT * 50, (x - y) / WIDTH * 40])
    photo = colours[truth].permute(2, 0, 1) + shade + 6 * torch.randn(shade.shape)
    scribbles = torch.full_like(truth, 255)
    scribbles[3, 4:12], scribbles[20:23, 18], scribbles[26:29, 48] = 0, 1, 2
    return photo.clamp(0, 255).to(torch.uint8)[None], truth[None], scribbles[None]


class Net(nn.Module):
    """Colours, and a bias for each pixel, with which it can learn any labels, and noise."""

    def __init__(self, labels=3):
        super().__init__()
        self.colours = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, labels, 1)
        )
        self.bias = nn.Parameter(torch.randn(1, labels, HEIGHT, WIDTH))

    def forward(self, photos):
        return self.colours(photos / 128 - 1) + self.bias


def train(loss, photos, truth, steps=60):
    """The losses, and how much of the labels the trained net gets right."""
    torch.manual_seed(0)
    net, losses = Net(), []
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(net)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    with torch.no_grad():
        right = net(photos.float()).argmax(1) == truth
    return losses, right.float().mean().item()


def test_scribbles(recipes, scene):
    photos, truth, scribbles = scene
    weight = 2e-9 * (256 * 256 / truth.numel()) ** 2
    accuracies = []
    for w in (0.0, weight):
        layer = DenseCRFLoss(w, sigma_rgb=15, sigma_xy=20, scale_factor=1)
        losses, accuracy = train(
            lambda net: recipes["scribble_loss"](net, photos, scribbles, regularised=layer),  # noqa: B023
            photos,
            truth,
        )
        assert losses[-1] < 0.1 * losses[0]
        accuracies.append(accuracy)
    assert accuracies[0] < 0.985 and accuracies[1] > 0.99
    assert recipes["regularised"].weight == 2e-9


def test_boundaries(recipes, scene):
    photos, truth, scribbles = scene
    layer = ConstrainToBoundaryLoss(CRFParams(2, 20, 30, 1, 1))

    def alone(net):
        return nn.functional.cross_entropy(net(photos.float()), scribbles, ignore_index=255)

    _, without = train(alone, photos, truth)
    losses, accuracy = train(
        lambda net: recipes["seeded_loss"](net, photos, scribbles, layer), photos, truth
    )
    assert losses[-1] < 0.2 * losses[0]
    assert without < 0.985 and accuracy > 0.99


def test_activation_maps(recipes, scene):
    """Maps that know a blob in each region: the walk fills it, up to the edges."""
    photos, truth, scribbles = scene
    maps = torch.stack([(scribbles == label).float() for label in (1, 2)], 1)
    maps = nn.functional.avg_pool2d(maps, 9, 1, 4)

    def right(labels):
        return (labels == truth).float().mean().item()

    plain = nn.functional.pad(maps / maps.amax(), (0, 0, 0, 0, 1, 0), value=0.3).argmax(1)
    refined = recipes["refined_labels"](photos, maps)
    assert right(plain) < 0.85 and right(refined) > right(plain) + 0.05
    walked = random_walk(maps, photos, sigma_rgb=15, sigma_xy=6, steps=8)
    assert refined.shape == truth.shape and walked.shape == maps.shape


def test_pseudo_labels(recipes, scene):
    """Most pixels get a label, and of these fewer are wrong than of the maps' own."""
    photos, truth, _ = scene
    maps = torch.stack([(truth[0] == label).float() for label in (1, 2)])
    maps = nn.functional.avg_pool2d(maps, 9, 1, 4)  # not sure of any outline
    labels = recipes["pseudo_labels"](photos[0], maps)
    known = labels != 255
    plain = nn.functional.pad(maps, (0, 0, 0, 0, 1, 0), value=0.3).argmax(0)
    wrong = (labels != truth[0])[known].float().mean()
    assert known.float().mean() > 0.7 and set(labels.unique().tolist()) <= {0, 1, 2, 255}
    assert wrong < 0.8 * (plain != truth[0]).float().mean()
