// A thread has one (filter, channel). To pack, it walks the rows of the matrix and adds up the
// filter taps that belong to each: adjacent in the weights, so that they come from L1 after the
// first one. To unpack, it walks the filter taps, and reads rows that adjacent threads read
// adjacent parts of. The biases are added up in the same launch.
#include <algorithm>
#include <type_traits>

#include "cuda/compat.cuh"
#include "ops/aspp.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kRowsAtOnce = 8;

// Where the rows of the matrix come from: row t from sources begin[t] ... begin[t + 1] - 1.
struct PackSources {
  const void* weight[kMaxPackBranches];
  int32_t taps[kMaxPackBranches];   // of the branch's whole kernel
  int32_t tap[kMaxPackSources];     // filter tap of a source
  uint8_t branch[kMaxPackSources];  // and its branch
  int16_t begin[kMaxAsppTaps + 1];
  int rows;
  const void* bias[kMaxPackBranches];
  int biases;
};

template <class T>
__device__ void add_biases(const PackSources& sources, typename Number<T>::Sum* to,
                           int64_t filters) {
  using Sum = typename Number<T>::Sum;
  for (int64_t o = strided_begin(); o < filters; o += strided_step()) {
    Sum sum = Sum(static_cast<const T*>(sources.bias[0])[o]);
    for (int b = 1; b < sources.biases; ++b) {
      sum += Sum(static_cast<const T*>(sources.bias[b])[o]);
    }
    to[o] = sum;
  }
}

// blockIdx.y has a run of rows, whose first sources are on their way together. Few rows have more.
// Behind the last run, where there are biases, it has these.
template <class T, class Packed>
__global__ void __launch_bounds__(kThreads)
    aspp_pack_kernel(const __grid_constant__ PackSources sources, Packed* __restrict__ packed,
                     typename Number<T>::Sum* bias, int64_t filters, int64_t real, int64_t items) {
  using Sum = typename Number<T>::Sum;
  const int first = static_cast<int>(blockIdx.y) * kRowsAtOnce;
  if (first >= sources.rows) {
    add_biases<T>(sources, bias, filters);
    return;
  }
  const int rows = min(kRowsAtOnce, sources.rows - first);
  const auto end = static_cast<uint32_t>(items);
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < end; i += gridDim.x * blockDim.x) {
    const bool filter = i < real;
    const auto load = [&](int s) {
      const int branch = sources.branch[s];
      const T* weight = static_cast<const T*>(sources.weight[branch]) + sources.tap[s];
      return filter ? Sum(*row_at(weight, i, sources.taps[branch])) : Sum(0);
    };
    Sum sum[kRowsAtOnce];
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const bool any = r < rows && sources.begin[first + r] < sources.begin[first + r + 1];
      sum[r] = any ? load(sources.begin[first + r]) : Sum(0);
    }
    Packed* to = packed + first * items + i;
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r, to += items) {
      if (r >= rows) continue;
#pragma unroll 1
      for (int s = sources.begin[first + r] + 1; s < sources.begin[first + r + 1]; ++s) {
        sum[r] += load(s);
      }
      *to = Number<Packed>::from(sum[r]);
    }
  }
}

// A run of a branch's filter taps; larger kernels take several launches.
struct TapRows {
  static constexpr int kMax = 256;
  int count;
  int64_t stride;       // taps of the whole kernel
  int32_t index[kMax];  // row of the matrix, or negative
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    aspp_unpack_kernel(const T* __restrict__ packed, T* __restrict__ weight, int64_t items,
                       TapRows rows) {
  for (int64_t i = strided_begin(); i < items; i += strided_step()) {
    for (int k = 0; k < rows.count; ++k) {
      const int row = rows.index[k];
      weight[i * rows.stride + k] = row < 0 ? T{} : packed[row * items + i];
    }
  }
}

// Calls run(first filter tap, rows, items, blocks) for every run of filter taps.
template <class Run>
cudaError_t for_each_run(const AsppPackShape& s, const Run& run) {
  const int64_t items = s.filters * s.channels;
  const int64_t taps = static_cast<int64_t>(s.index.size());
  if (items == 0) return cudaSuccess;
  for (int64_t first = 0; first < taps; first += TapRows::kMax) {
    TapRows rows{};
    rows.count = static_cast<int>(std::min<int64_t>(TapRows::kMax, taps - first));
    rows.stride = taps;
    std::copy_n(s.index.begin() + first, rows.count, rows.index);
    const cudaError_t error = run(first, rows, items, dim3(strided_blocks(items, kThreads)));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

int aspp_pack_cuda(const std::vector<AsppPackBranch>& branches,
                   const std::vector<const void*>& biases, void* packed, void* bias,
                   const AsppPackedShape& s, FloatType type, FloatType packed_type, void* stream) {
  if (branches.size() > kMaxPackBranches || biases.size() > kMaxPackBranches ||
      s.taps > kMaxAsppTaps) {
    return cudaErrorInvalidValue;
  }
  PackSources sources{};
  std::copy(biases.begin(), biases.end(), sources.bias);
  sources.biases = static_cast<int>(biases.size());
  sources.rows = static_cast<int>(s.taps);
  int count = 0;
  for (int64_t t = 0; t < s.taps; ++t) {
    for (size_t b = 0; b < branches.size(); ++b) {
      const std::vector<int32_t>& index = branches[b].index;
      for (size_t k = 0; k < index.size(); ++k) {
        if (index[k] != t) continue;
        if (count == kMaxPackSources) return cudaErrorInvalidValue;
        sources.tap[count] = static_cast<int32_t>(k);
        sources.branch[count++] = static_cast<uint8_t>(b);
      }
    }
    sources.begin[t + 1] = static_cast<int16_t>(count);
  }
  for (size_t b = 0; b < branches.size(); ++b) {
    sources.weight[b] = branches[b].weight;
    sources.taps[b] = static_cast<int32_t>(branches[b].index.size());
  }
  const int64_t real = s.filters * s.channels, items = s.padded * s.channels;
  if (items == 0 || s.taps == 0) return cudaSuccess;
  if (items > INT32_MAX) return cudaErrorInvalidValue;
  return with_float_type(type, [&](auto zero) {
    return with_float_type(packed_type, [&](auto packed_zero) -> cudaError_t {
      using T = decltype(zero);
      using Packed = decltype(packed_zero);
      // sums of double stay double, others become any type but that
      if constexpr (std::is_same_v<T, double> != std::is_same_v<Packed, double>) {
        return cudaErrorInvalidValue;
      } else {
        const unsigned runs = (sources.rows - 1) / kRowsAtOnce + 1;
        const dim3 grid(strided_blocks(items, kThreads), runs + (biases.empty() ? 0 : 1));
        return launch(aspp_pack_kernel<T, Packed>, grid, dim3(kThreads), 0,
                      static_cast<cudaStream_t>(stream), sources, static_cast<Packed*>(packed),
                      static_cast<typename Number<T>::Sum*>(bias), s.filters, real, items);
      }
    });
  });
}

int aspp_unpack_cuda(const void* packed, void* weight, const AsppPackShape& shape, FloatType type,
                     void* stream) {
  return with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    return for_each_run(shape, [&](int64_t first, const TapRows& rows, int64_t items, dim3 grid) {
      return launch(aspp_unpack_kernel<T>, grid, dim3(kThreads), 0,
                    static_cast<cudaStream_t>(stream), static_cast<const T*>(packed),
                    static_cast<T*>(weight) + first, items, rows);
    });
  });
}

}  // namespace deeplab_native
