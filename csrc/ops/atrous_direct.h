// Direct atrous convolution (implicit im2col): the matrix product of `atrous_im2col.h` without its
// columns in memory. Every block of threads gathers the pieces of the columns that it multiplies,
// tap by tap, into shared memory. On CUDA devices only.
#pragma once
#include <array>
#include <cstdint>

namespace deeplab_native {

// Types of the tensors, and how float32 is multiplied. Sums are float, or double for kFloat64.
enum class DirectType {
  kFloat32,
  kTfloat32,  // float32 tensors, products of 10-bit mantissas by tensor cores where there are any
  kFloat64,
  kBfloat16,
  kFloat16
};

struct AtrousDirectShape {
  int64_t batch, channels, height, width;  // of the map, before padding
  int64_t filters, out_height, out_width;
  std::array<int64_t, 4> map_stride, out_stride;  // elements, of batch, channel, row and column
  int64_t kernel_h, kernel_w;                     // filter taps
  int64_t stride_h, stride_w;                     // map pixels from one output pixel to the next
  int64_t pad_h, pad_w;                           // zeros on either side of the map
  int64_t rate_h, rate_w;                         // map pixels from one tap to the next
};

// How one product is dealt to the device: the tile of the result that a block of threads computes
// (an index of kTiles in cuda/tile_shape.cuh), and the number of parts that the sums are cut into.
// With more than one, `partial` has room for `parts` times the result, of the sums' type; the parts
// are then added in order, so the same plan gives the same bits.
struct DirectPlan {
  int tile, parts;
};

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// stream is a cudaStream_t; each returns a cudaError_t, 0 for success. No size of a map and no
// reach of a filter may exceed 2^30 pixels.

// out[b, o, y, x] = bias[o] + sum over c, i, j of weight[o, i, j, c] *
// map[b, c, y * stride_h + i * rate_h - pad_h, x * stride_w + j * rate_w - pad_w].
// map: any strides. weight: (filters, kernel_h, kernel_w, channels), contiguous. bias: (filters) or
// null. out: dense, rows of a map following each other (contiguous or channels_last).
int atrous_direct_cuda(const void* map, const void* weight, const void* bias, void* out,
                       void* partial, const AtrousDirectShape& shape, DirectType type,
                       DirectPlan plan, void* stream);

// The gradient by the map, (batch, channels, height, width), dense as out above; map_stride are its
// strides. grad: as out, any strides. weight: (channels, kernel_h, kernel_w, filters), contiguous.
int atrous_direct_map_gradient_cuda(const void* grad, const void* weight, void* grad_map,
                                    void* partial, const AtrousDirectShape& shape, DirectType type,
                                    DirectPlan plan, void* stream);

// The gradient by the weights, (filters, kernel_h, kernel_w, channels), contiguous. map, grad: any
// strides.
int atrous_direct_weight_gradient_cuda(const void* map, const void* grad, void* grad_weight,
                                       void* partial, const AtrousDirectShape& shape,
                                       DirectType type, DirectPlan plan, void* stream);
#endif

}  // namespace deeplab_native
