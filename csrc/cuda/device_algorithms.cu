#include "cuda/device_algorithms.h"

#if defined(CUDA_EMU)
#include <numeric>
#include <vector>
#else
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#endif

namespace deeplab_native {

#if defined(CUDA_EMU)

size_t exclusive_sum_bytes(int64_t) { return 1; }
size_t sort_pairs_bytes(int64_t, int) { return 1; }

cudaError_t exclusive_sum(void*, size_t, const int32_t* in, int32_t* out, int64_t n, cudaStream_t) {
  std::exclusive_scan(in, in + n, out, 0);
  return cudaSuccess;
}

cudaError_t sort_pairs(void*, size_t, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t n, int bits,
                       cudaStream_t) {
  const uint32_t mask = bits < 32 ? (1u << bits) - 1 : ~0u;
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return (keys[a] & mask) < (keys[b] & mask); });
  for (int64_t i = 0; i < n; ++i) {
    sorted_keys[i] = keys[order[i]];
    sorted_values[i] = values[order[i]];
  }
  return cudaSuccess;
}

#else

size_t exclusive_sum_bytes(int64_t n) {
  size_t bytes = 0;
  cub::DeviceScan::ExclusiveSum(nullptr, bytes, static_cast<const int32_t*>(nullptr),
                                static_cast<int32_t*>(nullptr), static_cast<int>(n));
  return bytes;
}

size_t sort_pairs_bytes(int64_t n, int bits) {
  size_t bytes = 0;
  cub::DeviceRadixSort::SortPairs(nullptr, bytes, static_cast<const uint32_t*>(nullptr),
                                  static_cast<uint32_t*>(nullptr),
                                  static_cast<const int32_t*>(nullptr),
                                  static_cast<int32_t*>(nullptr), static_cast<int>(n), 0, bits);
  return bytes;
}

cudaError_t exclusive_sum(void* scratch, size_t bytes, const int32_t* in, int32_t* out, int64_t n,
                          cudaStream_t stream) {
  return cub::DeviceScan::ExclusiveSum(scratch, bytes, in, out, static_cast<int>(n), stream);
}

cudaError_t sort_pairs(void* scratch, size_t bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values,
                                         static_cast<int>(n), 0, bits, stream);
}

#endif

}  // namespace deeplab_native
