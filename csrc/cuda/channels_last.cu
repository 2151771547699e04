// A block turns a tile of 64 pixels by 128 bytes of channels around in shared memory: it reads
// along what is adjacent in the map, and writes lines of channels. A line in shared memory is 4
// bytes longer, so that neither 32 pixels of a channel nor 8 vectors of 4 pixels meet on a bank.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cuda/compat.cuh"
#include "ops/atrous_pipelined.h"

namespace deeplab_native {
namespace {

constexpr int kThreads = 256, kTilePixels = 64, kWordsOfLine = 32;

// T: an unsigned integer of the element's size. Blocks: x the tiles of pixels, y of channels, z
// maps, as many as there may be.
template <class T>
__global__ void __launch_bounds__(kThreads)
    channels_last_kernel(const T* __restrict__ map, T* __restrict__ out, ChannelsLastShape s) {
  constexpr int kItems = 16 / sizeof(T), kLine = 8 * kItems, kPitch = kLine + 4 / sizeof(T);
  __shared__ uint32_t words[kTilePixels * (kWordsOfLine + 1)];
  T* tile = reinterpret_cast<T*>(words);
  const int64_t pixel0 = int64_t{blockIdx.x} * kTilePixels;
  const int64_t channel0 = int64_t{blockIdx.y} * kLine;
  const int pixels = static_cast<int>(min(int64_t{kTilePixels}, s.pixels - pixel0));
  const int channels = static_cast<int>(min(int64_t{kLine}, s.padded - channel0));
  const int real = static_cast<int>(min(int64_t{channels}, s.channels - channel0));
  // item by item along the inner of both; the next of a thread is kThreads further
  const bool along_channels = s.channel_stride <= s.pixel_stride;
  const int inner = along_channels ? channels : pixels, outer = along_channels ? pixels : channels;
  const int step_outer = kThreads / inner, step_inner = kThreads % inner;

  for (int64_t b = blockIdx.z; b < s.batch; b += gridDim.z) {
    const T* from =
        map + b * s.batch_stride + pixel0 * s.pixel_stride + channel0 * s.channel_stride;
    int o = threadIdx.x / inner, i = threadIdx.x % inner;
#pragma unroll 8
    while (o < outer) {
      const int c = along_channels ? i : o, pixel = along_channels ? o : i;
      tile[pixel * kPitch + c] =
          c < real ? from[c * s.channel_stride + pixel * s.pixel_stride] : T(0);
      o += step_outer, i += step_inner;
      if (i >= inner) i -= inner, ++o;
    }
    __syncthreads();
    T* to = out + (b * s.pixels + pixel0) * s.padded + channel0;
    const int vector = threadIdx.x % 8;
    for (int pixel = threadIdx.x / 8; pixel < pixels; pixel += kThreads / 8) {
      if (vector * kItems >= channels) break;
      uint32_t word[4];
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        memcpy(&word[w], words + pixel * (kWordsOfLine + 1) + vector * 4 + w, 4);
      }
      *reinterpret_cast<uint4*>(to + pixel * s.padded + vector * kItems) =
          make_uint4(word[0], word[1], word[2], word[3]);
    }
    __syncthreads();
  }
}

template <class T>
cudaError_t run(const void* map, void* out, const ChannelsLastShape& s, void* stream) {
  constexpr int64_t kItems = 16 / sizeof(T), kLine = 8 * kItems;
  if (s.padded % kItems != 0 || s.padded < s.channels || s.padded - s.channels >= kItems ||
      reinterpret_cast<uintptr_t>(out) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (s.batch * s.pixels * s.padded == 0) return cudaSuccess;
  const int64_t across = (s.padded + kLine - 1) / kLine;
  if (across > kMaxGrid || s.pixels > int64_t{kTilePixels} * INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  const dim3 grid(static_cast<unsigned>((s.pixels + kTilePixels - 1) / kTilePixels),
                  static_cast<unsigned>(across),
                  static_cast<unsigned>(std::min(s.batch, kMaxGrid)));
  return launch(channels_last_kernel<T>, grid, dim3(kThreads), 0, static_cast<cudaStream_t>(stream),
                static_cast<const T*>(map), static_cast<T*>(out), s);
}

}  // namespace

int channels_last_cuda(const void* map, void* out, const ChannelsLastShape& s, int element_size,
                       void* stream) {
  if (element_size == 2) return run<uint16_t>(map, out, s, stream);
  if (element_size == 4) return run<uint32_t>(map, out, s, stream);
  return cudaErrorInvalidValue;
}

}  // namespace deeplab_native
