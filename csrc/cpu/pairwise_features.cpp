#include "ops/pairwise_features.h"

#include "common/parallel.h"

namespace deeplab_native {
namespace {

template <class T>
void divide_row(const T* from, int64_t stride, int64_t width, float sigma, float* to) {
  for (int64_t x = 0; x < width; ++x) to[x] = static_cast<float>(from[x * stride]) / sigma;
}

void colour_row(const Image& image, int64_t offset, int64_t width, float sigma, float* to) {
  const int64_t stride = image.strides[2];
  switch (image.type) {
    case PixelType::kUint8:
      return divide_row(static_cast<const uint8_t*>(image.data) + offset, stride, width, sigma, to);
    case PixelType::kFloat32:
      return divide_row(static_cast<const float*>(image.data) + offset, stride, width, sigma, to);
    case PixelType::kFloat64:
      return divide_row(static_cast<const double*>(image.data) + offset, stride, width, sigma, to);
  }
}

}  // namespace

void pairwise_features_cpu(const Image& image, int64_t height, int64_t width, float sigma_x,
                           float sigma_y, const std::vector<float>& sigma_colour, float* features,
                           int num_threads) {
  const int64_t pixels = height * width;
  parallel_for(num_threads, height, 64, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      float* row = features + y * width;
      for (int64_t x = 0; x < width; ++x) row[x] = static_cast<float>(x) / sigma_x;
      const float scaled_y = static_cast<float>(y) / sigma_y;
      for (int64_t x = 0; x < width; ++x) row[pixels + x] = scaled_y;
      for (size_t c = 0; c < sigma_colour.size(); ++c) {
        const int64_t channel = static_cast<int64_t>(c);
        colour_row(image, channel * image.strides[0] + y * image.strides[1], width, sigma_colour[c],
                   row + (2 + channel) * pixels);
      }
    }
  });
}

}  // namespace deeplab_native
