// What follows a convolution in a net that only predicts: bias, residual and ReLU, in one pass.
#pragma once
#include <cstdint>

#include "common/float_type.h"

namespace deeplab_native {

struct ConvEpilogueShape {
  int64_t batch, channels, pixels;  // pixels: height * width
  bool channels_last;               // (batch, pixels, channels) in memory, else (batch, channels,
                                    // pixels)
};

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// map[b, c, p] = min(max((map[b, c, p] + bias[c]) + residual[b, c, p], low), high), the sums in
// float and rounded once; a NaN stays one.
// map: in place; residual: like map, or null for none; bias: (channels,) float. map, bias and
// residual begin at multiples of 16 bytes, and with channels_last a pixel takes a multiple of 16.
// type: of map and residual, not float64. stream is a cudaStream_t. Returns a cudaError_t.
int conv_epilogue_cuda(void* map, const float* bias, const void* residual,
                       const ConvEpilogueShape& shape, float low, float high, FloatType type,
                       void* stream);
#endif

}  // namespace deeplab_native
