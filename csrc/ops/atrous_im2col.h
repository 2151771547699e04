// Atrous im2col: the convolution becomes one matrix product, the filter taps being spread `rate`
// pixels apart while the map is read (Chen et al. 2017, section 3.1, the first implementation: "we
// add to im2col the ability to sparsely sample the underlying feature maps").
#pragma once
#include <array>
#include <cstdint>

#include "common/float_type.h"

namespace deeplab_native {

struct AtrousIm2colShape {
  int64_t batch, channels, height, width;  // of the map, before padding
  std::array<int64_t, 4> map_stride;       // elements, of batch, channel, row and column of the map
  int64_t kernel_h, kernel_w;              // filter taps
  int64_t stride_h, stride_w;              // map pixels from one output pixel to the next
  int64_t pad_h, pad_w;                    // zeros on either side of the map
  int64_t rate_h, rate_w;                  // map pixels from one tap to the next
  // The output pixels of these columns: rows [row_begin, row_end) x columns [col_begin, col_end)
  // of the output. A large layer goes through in several windows, so that a small buffer serves.
  int64_t row_begin, row_end, col_begin, col_end;

  int64_t window_rows() const { return row_end - row_begin; }
  int64_t window_cols() const { return col_end - col_begin; }
};

// columns[b, (c * kernel_h + i) * kernel_w + j, (y - row_begin) * window_cols + x - col_begin] =
// map[b, c, y * stride_h + i * rate_h - pad_h, x * stride_w + j * rate_w - pad_w], zero outside the
// map. columns: (batch, channels * kernel_h * kernel_w, window_rows * window_cols), contiguous;
// elements of element_size 2, 4 or 8 bytes, moved as they are.
void atrous_im2col_cpu(const void* map, void* columns, const AtrousIm2colShape& shape,
                       int element_size, int num_threads);

// The adjoint, added: map[b, c, h, w] += sum of the columns that atrous_im2col fills from this
// pixel. Every pixel gathers its own sum in the order of the taps, so the result depends neither on
// the number of threads nor on the run. map: double for kFloat64, float for the other types.
void atrous_col2im_cpu(const void* columns, void* map, const AtrousIm2colShape& shape,
                       FloatType type, int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same on the device, to the same bits; stream is a cudaStream_t. Returns a cudaError_t, 0 for
// success.
int atrous_im2col_cuda(const void* map, void* columns, const AtrousIm2colShape& shape,
                       int element_size, void* stream);
int atrous_col2im_cuda(const void* columns, void* map, const AtrousIm2colShape& shape,
                       FloatType type, void* stream);
#endif

}  // namespace deeplab_native
