// Bound by memory: a map is read and written once, a residual read once, where torch takes a pass
// each for bias (read, write), residual (twice read, write) and ReLU (read, write).
#include "cuda/compat.cuh"
#include "ops/conv_epilogue.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T values[kSize];
};

__device__ inline float clamped(float value, float low, float high) {
  value = value < low ? low : value;  // in this form NaN stays NaN
  return value > high ? high : value;
}

// channels_last: a thread has one pack of channels of a pixel after the other. Which channels they
// are follows without a division from the ones before.
template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_epilogue_rows_kernel(Pack<T>* map, const Pack<float>* __restrict__ bias,
                              const Pack<T>* residual, int64_t packs, int64_t row_packs, float low,
                              float high) {
  constexpr int kSize = Pack<T>::kSize, kBiasPacks = kSize / Pack<float>::kSize;
  const int64_t step = strided_step();
  const auto length = static_cast<uint32_t>(row_packs);
  const auto advance = static_cast<uint32_t>(step % row_packs);
  auto column = static_cast<uint32_t>(strided_begin() % row_packs);
  for (int64_t i = strided_begin(); i < packs; i += step) {
    Pack<T> value = map[i];
    Pack<T> added{};
    if (residual != nullptr) added = residual[i];
    for (int b = 0; b < kBiasPacks; ++b) {
      const Pack<float> own = bias[column * kBiasPacks + b];
      for (int k = 0; k < Pack<float>::kSize; ++k) {
        T& at = value.values[b * Pack<float>::kSize + k];
        float sum = float(at) + own.values[k];
        if (residual != nullptr) sum += float(added.values[b * Pack<float>::kSize + k]);
        at = Number<T>::from(clamped(sum, low, high));
      }
    }
    map[i] = value;
    column += advance;
    if (column >= length) column -= length;
  }
}

// Contiguous: y is a plane, of one channel; the planes begin anywhere.
template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_epilogue_planes_kernel(T* map, const float* __restrict__ bias, const T* residual,
                                ConvEpilogueShape s, float low, float high) {
  for (int64_t plane = blockIdx.y; plane < s.batch * s.channels; plane += gridDim.y) {
    const float own = bias[plane % s.channels];
    const int64_t begin = plane * s.pixels;
    for (int64_t i = strided_begin(); i < s.pixels; i += strided_step()) {
      float sum = float(map[begin + i]) + own;
      if (residual != nullptr) sum += float(residual[begin + i]);
      map[begin + i] = Number<T>::from(clamped(sum, low, high));
    }
  }
}

template <class T>
cudaError_t run(T* map, const float* bias, const T* residual, const ConvEpilogueShape& s, float low,
                float high, cudaStream_t stream) {
  if (s.batch * s.channels * s.pixels == 0) return cudaSuccess;
  if (s.channels_last) {
    const int64_t row_packs = s.channels / Pack<T>::kSize, packs = s.batch * s.pixels * row_packs;
    return launch(conv_epilogue_rows_kernel<T>, dim3(strided_blocks(packs, kThreads)),
                  dim3(kThreads), 0, stream, reinterpret_cast<Pack<T>*>(map),
                  reinterpret_cast<const Pack<float>*>(bias),
                  reinterpret_cast<const Pack<T>*>(residual), packs, row_packs, low, high);
  }
  const auto planes = static_cast<unsigned>(std::min(s.batch * s.channels, kMaxGrid));
  return launch(conv_epilogue_planes_kernel<T>, dim3(strided_blocks(s.pixels, kThreads), planes),
                dim3(kThreads), 0, stream, map, bias, residual, s, low, high);
}

}  // namespace

int conv_epilogue_cuda(void* map, const float* bias, const void* residual,
                       const ConvEpilogueShape& shape, float low, float high, FloatType type,
                       void* stream) {
  const auto run_as = [&](auto zero) {
    using T = decltype(zero);
    return run(static_cast<T*>(map), bias, static_cast<const T*>(residual), shape, low, high,
               static_cast<cudaStream_t>(stream));
  };
  if (type == FloatType::kBfloat16) return run_as(Bfloat16{});
  if (type == FloatType::kFloat16) return run_as(Float16{});
  return type == FloatType::kFloat32 ? run_as(float{}) : cudaErrorInvalidValue;
}

}  // namespace deeplab_native
