// The two parallel primitives that come from CUB, for the device, and from the standard library for
// the emulator; the only place that knows either. Both are deterministic.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/compat.cuh"

namespace deeplab_native {

// Bytes of scratch memory for n items, n < 2^31.
size_t exclusive_sum_bytes(int64_t n);
size_t sort_pairs_bytes(int64_t n, int bits);

// out[i] = in[0] + ... + in[i - 1]
cudaError_t exclusive_sum(void* scratch, size_t bytes, const int32_t* in, int32_t* out, int64_t n,
                          cudaStream_t stream);
// Sorts by the lowest `bits` bits of the keys; equal keys keep their order.
cudaError_t sort_pairs(void* scratch, size_t bytes, const uint32_t* keys, uint32_t* sorted_keys,
                       const int32_t* values, int32_t* sorted_values, int64_t n, int bits,
                       cudaStream_t stream);

}  // namespace deeplab_native
