// From a score map to the unary energies of the CRF at full resolution (DeepLab v2, sections 3.1
// and 3.3): bilinear interpolation with the corners aligned, and -log softmax over the labels, in
// one pass that stores no interpolated score.
//
//   s[b, l, Y, X] = scores[b, l] at (Y (h - 1) / (H - 1), X (w - 1) / (W - 1))
//   energies[b, l, Y, X] = log sum_k exp(s[b, k, Y, X]) - s[b, l, Y, X]
#pragma once
#include <cstdint>

#include "common/float_type.h"

namespace deeplab_native {

// One axis of the interpolation: `in` pixels to a grid of `full`, of which the first `out` are
// computed. Positions are fractions of integers, exact at any size.
struct AlignedAxis {
  int64_t in, full, out;

  // The source pixel at or before output pixel i.
  DEEPLAB_HOST_DEVICE int64_t low(int64_t i) const {
    return full > 1 ? i * (in - 1) / (full - 1) : 0;
  }
  DEEPLAB_HOST_DEVICE int64_t high(int64_t low) const { return low + 1 < in ? low + 1 : low; }
  // The weight of high(low); low has the rest.
  template <class T>
  DEEPLAB_HOST_DEVICE T fraction(int64_t i, int64_t low) const {
    return full > 1 ? T(i * (in - 1) - low * (full - 1)) / T(full - 1) : T(0);
  }

  // The output pixels [begin(j), end(j)) on which source pixel j has a weight, and that weight.
  DEEPLAB_HOST_DEVICE int64_t begin(int64_t j) const {
    if (in == 1 || full == 1 || j == 0) return j == 0 ? 0 : out;
    return at_most_out((j - 1) * (full - 1) / (in - 1) + 1);
  }
  DEEPLAB_HOST_DEVICE int64_t end(int64_t j) const {
    if (in == 1 || full == 1) return out;
    return at_most_out(((j + 1) * (full - 1) + in - 2) / (in - 1));
  }
  template <class T>
  DEEPLAB_HOST_DEVICE T weight(int64_t i, int64_t j) const {
    if (full == 1) return T(1);
    const int64_t distance = i * (in - 1) - j * (full - 1);
    return T(1) - T(distance < 0 ? -distance : distance) / T(full - 1);
  }

 private:
  DEEPLAB_HOST_DEVICE int64_t at_most_out(int64_t i) const { return i < out ? i : out; }
};

struct UpsampleShape {
  int64_t batch, labels;
  AlignedAxis y, x;
  int64_t stride[4];  // elements, of batch, label, row and column of the scores
};

// energies: (batch, labels, y.out, x.out), contiguous; double for double, float for other types.
void upsample_unary_cpu(const void* scores, void* energies, const UpsampleShape& shape,
                        FloatType type, int num_threads);

// grad_scores (batch, labels, y.in, x.in), contiguous, from the energies, the gradient and its sum
// over the labels, grad_sum (batch, y.out, x.out). rows: room for (batch, labels, y.out, x.in).
// type: of all of them, float or double. Every value gathers its own sum.
void upsample_unary_backward_cpu(const void* energies, const void* grad, const void* grad_sum,
                                 void* rows, void* grad_scores, const UpsampleShape& shape,
                                 FloatType type, int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same on the device; stream is a cudaStream_t. Return a cudaError_t, 0 for success.
int upsample_unary_cuda(const void* scores, void* energies, const UpsampleShape& shape,
                        FloatType type, void* stream);
int upsample_unary_backward_cuda(const void* energies, const void* grad, const void* grad_sum,
                                 void* rows, void* grad_scores, const UpsampleShape& shape,
                                 FloatType type, void* stream);
#endif

}  // namespace deeplab_native
