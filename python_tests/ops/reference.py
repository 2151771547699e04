"""Slow and obvious versions of the ops: the definitions, written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# ---- atrous convolution (Chen et al. 2017, section 3.1, equation 1) ----


def atrous_conv2d(input, weight, bias, stride, padding, rate):
    """y[i] = sum over k of x[i + r k] w[k]: one term a tap, over the padded map."""
    padded = F.pad(input, (padding[1], padding[1], padding[0], padding[0]))
    kernel = weight.shape[2:]
    height, width = (
        (padded.shape[2 + d] - rate[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in (0, 1)
    )
    out = input.new_zeros(input.shape[0], weight.shape[0], height, width)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * rate[0], i * rate[0] + stride[0] * (height - 1) + 1, stride[0])
            cols = slice(j * rate[1], j * rate[1] + stride[1] * (width - 1) + 1, stride[1])
            out += torch.einsum("bchw,oc->bohw", padded[:, :, rows, cols], weight[:, :, i, j])
    return out if bias is None else out + bias[:, None, None]


# ---- atrous im2col ----


def atrous_im2col(input, kernel, stride, padding, rate):
    """Element by element."""
    batch, channels, height, width = input.shape
    out_height = (height + 2 * padding[0] - rate[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    out_width = (width + 2 * padding[1] - rate[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    columns = input.new_zeros(batch, channels, kernel[0], kernel[1], out_height, out_width)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            for y in range(out_height):
                for x in range(out_width):
                    map_y = y * stride[0] + i * rate[0] - padding[0]
                    map_x = x * stride[1] + j * rate[1] - padding[1]
                    if 0 <= map_y < height and 0 <= map_x < width:
                        columns[:, :, i, j, y, x] = input[:, :, map_y, map_x]
    return columns.reshape(batch, channels * kernel[0] * kernel[1], out_height * out_width)


# ---- space to batch ----


def space_to_batch(input, rate, padding):
    """Every rate-th pixel from every offset, of the map padded to a multiple of the rate."""
    height, width = input.shape[2:]
    more = [-(n + 2 * p) % r for n, p, r in zip((height, width), padding, rate, strict=True)]
    padded = F.pad(input, (padding[1], padding[1] + more[1], padding[0], padding[0] + more[0]))
    shifts = [
        padded[:, :, p :: rate[0], q :: rate[1]] for p in range(rate[0]) for q in range(rate[1])
    ]
    return torch.stack(shifts, 1).flatten(0, 1)


# ---- ASPP (section 3.2, Figure 4) ----


def aspp(input, weights, biases, rates):
    """The branches, each as large as the input, added up."""
    out = 0
    for weight, bias, rate in zip(weights, biases or [None] * len(weights), rates, strict=True):
        rate = (rate, rate) if isinstance(rate, int) else rate
        padding = [r * (k - 1) // 2 for r, k in zip(rate, weight.shape[2:], strict=True)]
        out = out + atrous_conv2d(input, weight, bias, (1, 1), padding, rate)
    return out


def aspp_gather(y, bias, offsets):
    """out[b, o, y, x] = bias[o] + sum over t of Y[b, t, o, y + dy, x + dx]; Y in planes."""
    batch, _, filters, height, width = y.shape
    out = y.new_zeros(batch, filters, height, width) + bias[:, None, None]
    for t, (dy, dx) in enumerate(offsets):
        for row in range(max(0, -dy), min(height, height - dy)):
            for col in range(max(0, -dx), min(width, width - dx)):
                out[:, :, row, col] += y[:, t, :, row + dy, col + dx]
    return out


# ---- scores to unary energies at full resolution (sections 3.1 and 3.3) ----


def upsample_unary(scores, size, crop=None):
    """Pixel (Y, X) lies at (Y (h - 1) / (H - 1), X (w - 1) / (W - 1)), then -log softmax."""

    def matrix(n_in, n_out):
        weights = scores.new_zeros(n_out, n_in)
        for i in range(n_out):
            source = i * (n_in - 1) / max(n_out - 1, 1)
            low = min(int(source), n_in - 1)
            weights[i, low] += 1 - (source - low)
            weights[i, min(low + 1, n_in - 1)] += source - low
        return weights

    height, width = size if crop is None else crop
    rows, columns = matrix(scores.shape[2], size[0]), matrix(scores.shape[3], size[1])
    wide = torch.einsum("yh,blhw,xw->blyx", rows[:height], scores, columns[:width])
    return -F.log_softmax(wide, 1)
