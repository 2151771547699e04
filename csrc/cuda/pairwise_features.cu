#include "cuda/compat.cuh"
#include "ops/pairwise_features.h"
#include "ops/permutohedral.h"

namespace deeplab_native {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kMostChannels = kMaxFeatureDim - 2;

struct FeatureShape {
  int64_t batch, depth, height, width, image_stride, stride[4];
  int axes, channels;
  float sigma[3], channel_sigma[kMostChannels];  // sigma of z, y, x
};

// A thread to a pixel: neighbours in a row write neighbours of every plane.
template <class T>
__global__ void __launch_bounds__(kThreads)
    pairwise_features_kernel(const T* __restrict__ image, float* __restrict__ features,
                             const __grid_constant__ FeatureShape s) {
  const int64_t pixels = s.depth * s.height * s.width;
  for (int64_t t = strided_begin(); t < s.batch * pixels; t += strided_step()) {
    const int64_t b = t / pixels, pixel = t - b * pixels;
    const int64_t row = pixel / s.width, x = pixel - row * s.width;
    const int64_t z = s.axes == 2 ? 0 : row / s.height, y = row - z * s.height;
    float* to = features + b * (s.axes + s.channels) * pixels + pixel;
    const float scaled_x = __fdiv_rn(static_cast<float>(x), s.sigma[2]);
    to[pixels] = __fdiv_rn(static_cast<float>(y), s.sigma[1]);
    if (s.axes == 2) {
      to[0] = scaled_x;
    } else {
      to[0] = __fdiv_rn(static_cast<float>(z), s.sigma[0]);
      to[2 * pixels] = scaled_x;
    }
    to += s.axes * pixels;
    const T* from =
        image + b * s.image_stride + z * s.stride[1] + y * s.stride[2] + x * s.stride[3];
    for (int c = 0; c < s.channels; ++c, to += pixels) {
      *to = __fdiv_rn(static_cast<float>(from[c * s.stride[0]]), s.channel_sigma[c]);
    }
  }
}

}  // namespace

int pairwise_features_cuda(const Image& image, int64_t image_stride, int64_t batch, float* features,
                           void* stream) {
  if (image.dimensions() > kMaxFeatureDim) return cudaErrorInvalidValue;
  const auto [depth, height, width] = image.size;
  const int channels = image.dimensions() - image.axes;
  FeatureShape s{batch, depth, height, width, image_stride, {}, image.axes, channels, {}, {}};
  std::copy(image.strides.begin(), image.strides.end(), s.stride);
  std::copy(image.sigmas.begin(), image.sigmas.end(), s.sigma);
  std::copy(image.channel_sigmas.begin(), image.channel_sigmas.end(), s.channel_sigma);
  const int64_t items = batch * image.pixels();
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
