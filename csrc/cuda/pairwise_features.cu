#include "cuda/compat.cuh"
#include "ops/pairwise_features.h"
#include "ops/permutohedral.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kMostChannels = kMaxFeatureDim - 2;

struct FeatureShape {
  int64_t batch, height, width, image_stride, stride[3];
  int channels;
  float sigma_x, sigma_y, sigma_colour[kMostChannels];
};

// A thread to a pixel: neighbours in a row write neighbours of every plane.
template <class T>
__global__ void __launch_bounds__(kThreads)
    pairwise_features_kernel(const T* __restrict__ image, float* __restrict__ features,
                             const __grid_constant__ FeatureShape s) {
  const int64_t pixels = s.height * s.width;
  for (int64_t t = strided_begin(); t < s.batch * pixels; t += strided_step()) {
    const int64_t b = t / pixels, pixel = t - b * pixels;
    const int64_t y = pixel / s.width, x = pixel - y * s.width;
    float* to = features + b * (2 + s.channels) * pixels + pixel;
    to[0] = __fdiv_rn(static_cast<float>(x), s.sigma_x);
    to[pixels] = __fdiv_rn(static_cast<float>(y), s.sigma_y);
    const T* from = image + b * s.image_stride + y * s.stride[1] + x * s.stride[2];
    for (int c = 0; c < s.channels; ++c) {
      to[(2 + c) * pixels] =
          __fdiv_rn(static_cast<float>(from[c * s.stride[0]]), s.sigma_colour[c]);
    }
  }
}

}  // namespace

int pairwise_features_cuda(const Image& image, int64_t image_stride, int64_t batch, int64_t height,
                           int64_t width, float sigma_x, float sigma_y,
                           const std::vector<float>& sigma_colour, float* features, void* stream) {
  if (sigma_colour.size() > kMostChannels) return cudaErrorInvalidValue;
  FeatureShape s{batch,   height,  width, image_stride, {}, static_cast<int>(sigma_colour.size()),
                 sigma_x, sigma_y, {}};
  std::copy(image.strides.begin(), image.strides.end(), s.stride);
  std::copy(sigma_colour.begin(), sigma_colour.end(), s.sigma_colour);
  const int64_t items = batch * height * width;
  if (items == 0) return cudaSuccess;
  const auto run = [&](auto kernel) {
    return launch(kernel, strided_blocks(items, kThreads), kThreads, 0,
                  static_cast<cudaStream_t>(stream), image.data, features, s);
  };
  switch (image.type) {
    case PixelType::kUint8:
      return run(pairwise_features_kernel<uint8_t>);
    case PixelType::kFloat32:
      return run(pairwise_features_kernel<float>);
    case PixelType::kFloat64:
      return run(pairwise_features_kernel<double>);
  }
  return cudaErrorInvalidValue;
}

}  // namespace deeplab_native
