// The direct atrous convolution (atrous_direct.h) on devices whose tensor cores load their factors
// by ldmatrix from shared memory that cp.async fills: compute capability 8.0 and newer.
#pragma once
#include "ops/atrous_direct.h"

namespace deeplab_native {

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The first of the tiles (DirectPlan::tile, the largest first: rows x columns 256 x 128, 128 x 128,
// 128 x 64, 64 x 64, 128 x 32) whose stages fit the shared memory of the current device; those
// after it fit as well. -1: this build has no such kernel for the device.
int atrous_pipelined_first_tile();

// As atrous_direct_cuda, of kBfloat16, kFloat16 and kTfloat32. map: channels adjacent, a whole
// number of 16 bytes of them, all other strides and the address such multiples, too; channels that
// are not there are zeros. weight: (filters, kernel_h, kernel_w, channels) with as many channels.
// Fewer than 2^30 times 16 bytes of either, and than 2^31 results: cudaErrorInvalidValue otherwise.
//
// The sums of a pixel run in the order of taps, then channels, whatever the tile is, and do not
// depend on where in a batch its map is: with parts, no tile has pixels of two maps.
int atrous_pipelined_cuda(const void* map, const void* weight, const void* bias, void* out,
                          void* partial, const AtrousDirectShape& shape, DirectType type,
                          DirectPlan plan, void* stream);

struct ChannelsLastShape {
  int64_t batch, channels, pixels;                     // of the map
  int64_t batch_stride, channel_stride, pixel_stride;  // elements
  int64_t padded;  // channels of a pixel of the result, a whole number of 16 bytes
};

// out[b, pixel, c] = map[b, c, pixel], zero from `channels` on; out: (batch, pixels, padded),
// 16-byte aligned. element_size: 2 or 4.
int channels_last_cuda(const void* map, void* out, const ChannelsLastShape& shape, int element_size,
                       void* stream);
#endif

}  // namespace deeplab_native
