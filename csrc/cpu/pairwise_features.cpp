#include "ops/pairwise_features.h"

#include <algorithm>

#include "common/parallel.h"

namespace deeplab_native {
namespace {

template <class T>
void divide_row(const T* from, int64_t stride, int64_t width, float sigma, float* to) {
  for (int64_t x = 0; x < width; ++x) to[x] = static_cast<float>(from[x * stride]) / sigma;
}

void channel_row(const Image& image, int64_t offset, float sigma, float* to) {
  const int64_t stride = image.strides[3], width = image.size[2];
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

void pairwise_features_cpu(const Image& image, float* features, int num_threads) {
  const int64_t pixels = image.pixels(), height = image.size[1], width = image.size[2];
  parallel_for(num_threads, image.rows(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::array<int64_t, 2> position{r / height, r % height};  // z, y
      float* row = features + r * width;
      for (int k = 0; k < image.axes; ++k, row += pixels) {
        const int axis = image.axis_of(k);
        const float sigma = image.sigmas[axis];
        if (axis == 2) {
          for (int64_t x = 0; x < width; ++x) row[x] = static_cast<float>(x) / sigma;
        } else {
          std::fill_n(row, width, static_cast<float>(position[axis]) / sigma);
        }
      }
      const int64_t first = position[0] * image.strides[1] + position[1] * image.strides[2];
      for (size_t c = 0; c < image.channel_sigmas.size(); ++c, row += pixels) {
        const int64_t channel = static_cast<int64_t>(c) * image.strides[0];
        channel_row(image, channel + first, image.channel_sigmas[c], row);
      }
    }
  });
}

}  // namespace deeplab_native
