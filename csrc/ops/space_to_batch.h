// Space-to-batch: a map becomes rate_h x rate_w maps of every rate-th pixel, so that an atrous
// convolution becomes a standard one (Chen et al. 2017, section 3.1, the second implementation).
#pragma once
#include <cstdint>

namespace deeplab_native {

struct SpaceToBatchShape {
  int64_t batch, channels, height, width;  // of the map, before padding
  int64_t rate_h, rate_w;
  int64_t pad_h, pad_w;  // zeros on either side of the map
  // of a block: ceil((height + 2 pad_h) / rate_h), likewise its width
  int64_t block_height, block_width;
};

// blocks[((b * rate_h + p) * rate_w + q), c, y, x] = map[b, c, y * rate_h + p - pad_h,
// x * rate_w + q - pad_w], zero outside the map.
// map: (batch, channels, height, width), blocks: (batch * rate_h * rate_w, channels, block_height,
// block_width); both contiguous, or both channels_last; elements of element_size 1, 2, 4, 8 or 16
// bytes, moved as they are.
void space_to_batch_cpu(const void* map, void* blocks, const SpaceToBatchShape& shape,
                        int element_size, bool channels_last, int num_threads);

// The way back: map[b, c, y, x] = blocks[...] for every pixel of the map, pixels of the blocks that
// lie outside it are dropped. Adjoint and, on the map, inverse of the above.
void batch_to_space_cpu(const void* blocks, void* map, const SpaceToBatchShape& shape,
                        int element_size, bool channels_last, int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same on the device; stream is a cudaStream_t. Returns a cudaError_t, 0 for success.
int space_to_batch_cuda(const void* map, void* blocks, const SpaceToBatchShape& shape,
                        int element_size, bool channels_last, void* stream);
int batch_to_space_cuda(const void* blocks, void* map, const SpaceToBatchShape& shape,
                        int element_size, bool channels_last, void* stream);
#endif

}  // namespace deeplab_native
