"""`predict` against its protocol written out in NumPy."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deeplab_native.crf import CRFParams
from deeplab_native.models import CAFFE, Preprocessing, create_model, predict
from deeplab_native.ops.dense_crf import dense_crf

CRF = CRFParams(w1=4, sigma_alpha=30, sigma_beta=10, w2=3, sigma_gamma=2)


class TinyNet(nn.Module):
    """Score map at 1/8 from single pixels; its dropout shows whether it runs in training mode."""

    def __init__(self, num_classes=4, preprocessing=CAFFE):
        super().__init__()
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.conv = nn.Conv2d(3, num_classes, 1, stride=8)
        self.dropout = nn.Dropout(0.5)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.conv.weight, std=0.03, generator=generator)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        assert x.shape[2] % 8 == x.shape[3] % 8 == 1
        return self.dropout(self.conv(x))


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def interpolate(scores, height, width):
    """(L, h, w) -> (L, height, width), corners aligned: source = out (in - 1) / (out - 1)."""

    def matrix(n_in, n_out):
        weights = np.zeros((n_out, n_in))
        for i in range(n_out):
            source = i * (n_in - 1) / max(n_out - 1, 1)
            low = min(int(source), n_in - 1)
            weights[i, low] += 1 - (source - low)
            weights[i, min(low + 1, n_in - 1)] += source - low
        return weights

    rows, columns = matrix(scores.shape[1], height), matrix(scores.shape[2], width)
    return np.einsum("yh,lhw,xw->lyx", rows, scores, columns)


def reference_scores(model, image):
    """(H, W, 3) uint8 RGB -> (L, H, W) float64 scores at full resolution."""
    h, w, _ = image.shape
    H, W = 8 * -(-(h - 1) // 8) + 1, 8 * -(-(w - 1) // 8) + 1
    mean_bgr = np.array([104.008, 116.669, 122.675])
    padded = np.tile(mean_bgr, (H, W, 1))
    padded[:h, :w] = image[:, :, ::-1]
    net_input = torch.tensor((padded - mean_bgr).transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.no_grad():
        scores = model.eval()(net_input)[0].double().numpy()
    return interpolate(scores, H, W)[:, :h, :w]


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


@pytest.mark.parametrize("size", [(33, 41), (30, 47), (1, 9), (8, 8), (2, 1)])
def test_protocol_without_crf(size):
    model, image = TinyNet(), random_image(*size)
    result = predict(model, image)
    expected = reference_scores(model, image)
    assert result.labels.shape == size
    assert result.labels.dtype == torch.int64
    np.testing.assert_allclose(result.scores, expected, atol=1e-4)
    np.testing.assert_allclose(result.probabilities, softmax(expected), atol=1e-5)
    np.testing.assert_array_equal(result.labels, expected.argmax(axis=0))


@pytest.mark.parametrize(("normalization", "scale"), [("symmetric", 0.5), ("after", 1)])
def test_protocol_with_crf(normalization, scale):
    model, image = TinyNet(), random_image(30, 47)
    image[:, 20:] //= 4
    how = {"iterations": 3, "normalization": normalization, "scale": scale}
    result = predict(model, image, crf=CRF, **how)
    unary = torch.tensor(-np.log(softmax(reference_scores(model, image))), dtype=torch.float32)
    pixels = torch.tensor(image.transpose(2, 0, 1).copy())  # RGB as it was, without padding
    expected = dense_crf(unary[None], pixels[None], CRF, **how)[0]
    torch.testing.assert_close(result.probabilities, expected, atol=1e-3, rtol=1e-3)
    assert (result.labels == expected.argmax(dim=0)).float().mean() > 0.99
    # the scores stay those of the net
    torch.testing.assert_close(result.scores, predict(model, image).scores)


@pytest.mark.parametrize(("size", "small"), [((90, 61), (45, 30)), ((40, 120), (15, 45))])
def test_a_reduced_image(size, small):
    model, image = TinyNet().eval(), random_image(*size)
    reduced = Image.fromarray(image).resize(small[::-1], Image.Resampling.BILINEAR)  # antialiased
    scores = reference_scores(model, np.asarray(reduced))
    expected = nn.functional.interpolate(torch.from_numpy(scores)[None], size, mode="bilinear")
    result = predict(model, image, longest_side=45)
    assert result.labels.shape == size
    # a level of rounding is worth up to 0.1 in a score
    torch.testing.assert_close(result.scores, expected[0].float(), rtol=0, atol=0.15)
    torch.testing.assert_close(result.probabilities, result.scores.softmax(0))
    refined = predict(model, image, longest_side=45, crf=CRF)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    q = dense_crf(-result.scores.log_softmax(0)[None], pixels, CRF)[0]
    torch.testing.assert_close(refined.probabilities, q)


def test_a_side_that_the_image_does_not_reach():
    model, image = TinyNet().eval(), random_image(33, 20)
    for one, other in zip(
        predict(model, image), predict(model, image, longest_side=33), strict=True
    ):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"longest_side: expected .*, got 0"):
        predict(model, image, longest_side=0)
    with pytest.raises(ValueError, match="longest_side: expected None with a tile, got 9"):
        predict(model, image, longest_side=9, tile=9)


def test_crf_takes_scores_far_apart():
    """-log softmax stays finite where softmax itself is 0."""
    model = TinyNet()
    model.conv.weight.data.mul_(1e4)
    result = predict(model, random_image(17, 17), crf=CRF, iterations=1)
    assert result.probabilities.isfinite().all()


@pytest.mark.parametrize("name", ["deeplab_vgg16_largefov", "deeplab_resnet101_aspp"])
def test_protocol_with_a_real_net(name):
    model, image = create_model(name, 5, seed=0), random_image(60, 97)
    result = predict(model, image)
    expected = reference_scores(model, image)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-3, atol=1e-3 * expected.std())
    assert model.training is False  # as the reference left it


def test_forms_of_the_image_agree():
    model, image = TinyNet(), random_image(20, 30)
    expected = predict(model, image)
    chw = torch.tensor(image.transpose(2, 0, 1).copy())
    read_only = image.copy()
    read_only.setflags(write=False)
    for form in (chw, Image.fromarray(image), read_only, image[:, ::-1].copy()[:, ::-1]):
        assert torch.equal(predict(model, form).scores, expected.scores)

    other = torch.tensor(random_image(20, 30, seed=1).transpose(2, 0, 1).copy())
    batch = predict(model, torch.stack([other, chw]), crf=CRF, iterations=2)
    assert batch.labels.shape == (2, 20, 30)
    assert batch.probabilities.shape == batch.scores.shape == (2, 4, 20, 30)
    torch.testing.assert_close(batch.scores[1], expected.scores)
    one = predict(model, chw, crf=CRF, iterations=2)
    torch.testing.assert_close(batch.probabilities[1], one.probabilities, atol=1e-4, rtol=1e-4)


def test_input_format_comes_from_the_model():
    image = random_image(9, 9)
    rgb = Preprocessing("RGB", CAFFE.mean[::-1])
    flipped = TinyNet(preprocessing=rgb)
    flipped.conv.weight.data = flipped.conv.weight.data.flip(1)
    expected = predict(TinyNet(), image).scores
    torch.testing.assert_close(predict(flipped, image).scores, expected)


def test_model_and_image_are_left_as_they_were():
    model, image = TinyNet(), random_image(9, 17)
    model.train()
    model.conv.eval()
    before = image.copy()
    first, second = predict(model, image), predict(model, image)
    assert torch.equal(first.scores, second.scores)  # no dropout
    assert (model.training, model.conv.training, model.dropout.training) == (True, False, True)
    assert np.array_equal(image, before)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_training_mode_comes_back_after_an_error():
    model = TinyNet()
    model.forward = lambda x: torch.zeros(0)[1]
    with pytest.raises(IndexError):
        predict(model, random_image(9, 9))
    assert model.training


def test_precision_of_the_model():
    model, image = TinyNet(), random_image(17, 25)
    expected = predict(model, image)
    result = predict(model.to(torch.bfloat16), image)
    assert result.scores.dtype == torch.float32
    torch.testing.assert_close(result.probabilities, expected.probabilities, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((9, 9, 3), np.float32), TypeError, "image: expected dtype uint8"),
        (np.zeros((9, 9), np.uint8), ValueError, r"array \(H, W, 3\), got shape \(9, 9\)"),
        (np.zeros((3, 9, 9), np.uint8), ValueError, r"array \(H, W, 3\), got shape \(3, 9, 9\)"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, "at least one pixel"),
        (torch.zeros(3, 9, 9), TypeError, "image: expected dtype torch.uint8"),
        (torch.zeros(9, 9, 3, dtype=torch.uint8), ValueError, r"tensor \(3, H, W\)"),
        (torch.zeros(9, 9, dtype=torch.uint8), ValueError, "image: expected 3 or 4 dimensions"),
        (Image.new("RGBA", (9, 9)), ValueError, r'image.convert\("RGB"\)'),
        ([[0]], TypeError, "image: expected a path, a numpy array.*got list"),
        ("no/cat.jpg", FileNotFoundError, r"no/cat\.jpg: no such picture"),
    ],
)
def test_bad_images(image, error, message):
    with pytest.raises(error, match=message):
        predict(TinyNet(), image)


def test_bad_models():
    image = random_image(9, 9)
    with pytest.raises(TypeError, match=r"model: .*\.preprocessing, got Conv2d with None"):
        predict(nn.Conv2d(3, 4, 1), image)
    model = TinyNet(num_classes=4)
    model.num_classes = 21
    with pytest.raises(ValueError, match=r"model: .*\(1, 21, 'h', 'w'\), got shape \(1, 4, 2, 2\)"):
        predict(model, image)


class Brightness(nn.Module):
    """A net without parameters."""

    num_classes, preprocessing = 2, CAFFE

    def forward(self, x):
        assert (x.dtype, x.device.type) == (torch.float32, "cpu")
        grey = x[:, :, ::8, ::8].mean(1, keepdim=True)
        return torch.cat([-grey, grey], 1)


def test_a_model_without_parameters():
    image = np.zeros((9, 17, 3), np.uint8)
    image[:, 8:] = 255
    labels = predict(Brightness(), image, crf=CRF, iterations=1).labels
    assert labels[0, 0] == 0 and labels[0, -1] == 1


@pytest.mark.parametrize("crf", [None, CRF])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"iterations": -1}, ValueError),
        ({"iterations": 1.5}, TypeError),
        ({"normalization": "sideways"}, ValueError),
        ({"scale": 0}, ValueError),
    ],
)
def test_arguments_of_the_crf_are_checked_before_the_net_runs(crf, arguments, error):
    model = TinyNet()
    model.forward = lambda x: pytest.fail("the net ran")
    with pytest.raises(error, match=next(iter(arguments))):
        predict(model, random_image(9, 9), crf=crf, **arguments)


def test_bad_crf():
    image = random_image(9, 9)
    with pytest.raises(TypeError, match="crf: expected CRFParams or None, got str"):
        predict(TinyNet(), image, crf="deeplab_v2_resnet101")
    with pytest.raises(ValueError, match="normalization"):
        predict(TinyNet(), image, crf=CRF, normalization="sideways")


def test_a_path(tmp_path):
    """Read as the commands do: turned upright."""
    stored, exif = random_image(24, 40), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    model = TinyNet()
    for path in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        found = predict(model, path, crf=CRF)
        expected = predict(model, np.rot90(stored, -1), crf=CRF)
        assert all(map(torch.equal, found, expected))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        predict(model, tmp_path / "text.png")
