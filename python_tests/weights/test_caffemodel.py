"""Caffemodels written by the tests, in all the ways that Caffe has written them."""

import numpy as np
import pytest

from deeplab_native.weights.caffe_names import named_blobs
from deeplab_native.weights.caffemodel import read_caffemodel
from python_tests.weights.checkpoint_cases import layer, message, number, v1_layer, varint

CONVOLUTION, INNER_PRODUCT, RELU = 4, 14, 18


@pytest.fixture
def written(tmp_path):
    def write(*parts):
        path = tmp_path / "net.caffemodel"
        path.write_bytes(message(1, "a net") + b"".join(parts))
        return path

    return write


def translated(path):
    return {key: values for key, _, values in named_blobs(path, read_caffemodel(path))}


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_values_come_back_exactly(written, version, double, packed):
    weight, bias = random(5, 3, 3, 3), random(5)
    style = {"double": double, "packed": packed}
    if version == "V1":
        parts = [
            v1_layer("data", 5, []),
            v1_layer("conv1_1", CONVOLUTION, [weight, bias], **style),
            v1_layer("relu1_1", RELU, []),
        ]
    else:
        parts = [
            layer("data", "ImageData", []),
            layer("conv1_1", "Convolution", [weight, bias], **style),
            layer("relu1_1", "ReLU", []),
        ]
    (read,) = read_caffemodel(written(*parts))
    assert (read.name, read.kind) == ("conv1_1", "Convolution")
    first, second = translated(written(*parts)).values()
    assert first.dtype == (np.float64 if double else np.float32)
    np.testing.assert_array_equal(first, weight)
    np.testing.assert_array_equal(second, bias)  # stored as (1, 1, 1, 5) in V1


def test_numbers_one_by_one_and_in_pieces(written):
    """Not packed, with something in between, then packed: all in the order of the file."""
    values = random(200)
    one_by_one = b"".join(b"\x2d" + v.tobytes() for v in values[:150])
    content = (
        message(7, message(1, varint(200)))
        + one_by_one[: 5 * 70]
        + number(12, 1)
        + one_by_one[5 * 70 :]
        + message(5, values[150:].tobytes())
    )
    path = written(message(100, message(1, "fc6") + message(2, "x") + message(7, content)))
    np.testing.assert_array_equal(read_caffemodel(path)[0].blobs[0], values)


def test_matrices_of_old_files(written):
    weight, bias = random(6, 8), random(6)
    path = written(v1_layer("fc6", INNER_PRODUCT, [weight, bias]))
    assert read_caffemodel(path)[0].blobs[0].shape == (1, 1, 6, 8)
    found = translated(path)
    np.testing.assert_array_equal(found["fc6.weight"], weight)
    np.testing.assert_array_equal(found["fc6.bias"], bias)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("conv1_1", "conv1_1"),
        ("conv5_3", "conv5_3"),
        ("fc6", "fc6"),
        ("fc7_4", "fc7_4"),
        ("fc8", "fc8"),
        ("fc8_voc12", "fc8"),
        ("fc8_pascal_context_3", "fc8_3"),
        ("fc8_2", "fc8_2"),
        ("fc1_voc12", "fc1"),
        ("fc1_voc12_c0", "fc1.c0"),
        ("fc1_c3", "fc1.c3"),
        ("fc1000", "fc1"),
        ("conv6_1", None),
        ("fc9", None),
    ],
)
def test_names_of_layers(written, name, ours):
    found = translated(written(layer(name, "Convolution", [random(2, 3, 1, 1), random(2)])))
    assert list(found) == ([None] if ours is None else [f"{ours}.weight", f"{ours}.bias"])


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("2a_branch1", "res2.block1.branch1"),
        ("2c_branch2b", "res2.block3.branch2b"),
        ("3b3_branch2c", "res3.block4.branch2c"),
        ("4b22_branch2a", "res4.block23.branch2a"),
        ("5b_branch2a", "res5.block2.branch2a"),
    ],
)
def test_names_of_residual_layers(written, name, ours):
    vector = random(4)
    found = translated(
        written(
            layer("res" + name, "Convolution", [random(4, 2, 1, 1)]),
            layer("bn" + name, "BatchNorm", [vector, vector + 1, np.float32([2])]),
            layer("scale" + name, "Scale", [vector + 2, vector + 3]),
        )
    )
    parameters = ("conv.weight", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias")
    assert list(found) == [f"{ours}.{p}" for p in parameters]
    np.testing.assert_array_equal(found[f"{ours}.bn.running_mean"], vector / 2)
    np.testing.assert_array_equal(found[f"{ours}.bn.running_var"], (vector + 1) / 2)
    np.testing.assert_array_equal(found[f"{ours}.bn.bias"], vector + 3)


def test_statistics_that_were_never_counted_are_zeros(written):
    path = written(layer("bn_conv1", "BatchNorm", [random(4), random(4), np.float32([0])]))
    assert not any(values.any() for values in translated(path).values())


def test_copies_for_other_scales_must_be_equal(written):
    weight, bias = random(2, 3, 1, 1), random(2)
    parts = [
        layer("fc1_voc12_c0" + scale, "Convolution", [weight, bias])
        for scale in ("_res075", "", "_res05")
    ]
    np.testing.assert_array_equal(translated(written(*parts))["fc1.c0.weight"], weight)
    parts[2] = layer("fc1_voc12_c0_res05", "Convolution", [weight, bias + 1])
    with pytest.raises(ValueError, match=r"fc1_voc12_c0_res05 \(byte \d+\) should hold the wei"):
        translated(written(*parts))
    parts[2] = layer("fc1_voc12_c0_res05", "Convolution", [weight])
    with pytest.raises(ValueError, match="should hold the weights of fc1_voc12_c0, and they diff"):
        translated(written(*parts))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([layer("fc6", "x", [random(2)])] * 2, r"two layers are named 'fc6' \(byte \d+\)"),
        ([layer("bn_conv1", "BatchNorm", [random(4)] * 2)], r"bn_conv1 .* should have three blobs"),
        (
            [layer("bn_conv1", "BatchNorm", [random(4), random(4), np.float32([-1])])],
            "has the factor -1.0, expected a positive number",
        ),
        (
            [layer("bn_conv1", "BatchNorm", [random(4), random(4), np.float32([np.nan])])],
            "has the factor nan",
        ),
    ],
)
def test_layers_that_make_no_sense(written, parts, message):
    with pytest.raises(ValueError, match=message):
        translated(written(*parts))


def test_layers_of_the_first_format(written):
    path = written(message(2, message(1, message(1, "conv1"))))
    with pytest.raises(ValueError, match="a layer of Caffe's first format"):
        read_caffemodel(path)


def test_a_net_definition_has_no_weights(written):
    with pytest.raises(ValueError, match="is no caffemodel with weights: no layer of it has blobs"):
        read_caffemodel(written(layer("conv1", "Convolution", [])))


def net(blob_content):
    return message(100, message(1, "conv1") + message(7, blob_content))


SHAPE_2 = message(7, message(1, varint(2)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x0b", r"byte 7: wire type 3, which is not in use"),
        (b"\x00\x01", r"byte 7: field number 0"),
        (b"\xff" * 11, "byte 7: a number of more than 10 bytes"),
        (b"\x80", "byte 7: the message ends within a number"),
        (varint(100 << 3 | 2) + varint((1 << 64) - 1), r"field 100 is 18446744073709551615 bytes"),
        (varint(100 << 3 | 2) + varint(1 << 40) + b"x" * 9, "1099511627776 bytes long, 9 are left"),
        (number(100, 5), "field 100 should be a string, it is a varint"),
        (message(100, number(1, 5)), "field 1 should be a string, it is a varint"),
        (message(2, message(5, "x")), "field 5 should be a varint, it is a string"),
        (message(100, message(1, b"\xff\xfe")), "a name that is not UTF-8"),
        (message(100, message(1, "a\nb")), "a name with control characters"),
        (message(100, message(1, "x" * 257)), "a name of 257 bytes, of 256 at most"),
        (net(message(5, b"12345678")), r"a blob of shape \(0, 0, 0, 0\) with 2 numbers"),
        (net(SHAPE_2 + message(5, b"1234")), r"a blob of shape \(2,\) with 1 numbers"),
        (net(SHAPE_2 + message(5, b"12345")), "numbers of 4 bytes do not fill it"),
        (net(SHAPE_2 + number(5, 3)), "field 5 should be a string or 4 bytes, it is a varint"),
        (net(message(7, message(1, varint(1 << 62)))), "an axis of size 4611686018427387904"),
        (
            net(message(7, message(1, varint((1 << 64) - 1)))),
            "an axis of size 18446744073709551615",
        ),
        (net(message(7, message(1, varint(2**31 - 1) * 32))), "a blob of shape .* with 0 numbers"),
        (net(message(7, number(1, 1) * 33)), "a blob of more than 32 axes"),
        (net(message(7, message(1, b"\x01" * 321))), "more than the 32 axes"),
        (net(SHAPE_2 * 33), "a blob of more than 32 axes"),
        (net(message(7, message(1, varint(0)))), r"a blob of shape \(0,\), without numbers"),
        (number(9, 1) * 1_000_001, "more than 1000000 fields"),
    ],
)
def test_damage_is_named_with_its_place(written, content, problem):
    path = written(content)
    with pytest.raises(ValueError, match=f"{path.name} .*byte \\d+.*") as error:
        read_caffemodel(path)
    assert error.match(problem)


def test_blobs_look_into_the_file(written):
    """Reading takes no memory for packed numbers, so that a file cannot ask for any."""
    (read,) = read_caffemodel(written(layer("fc6", "x", [random(1000)])))
    assert not read.blobs[0].flags.owndata
    assert not read.blobs[0].flags.writeable
