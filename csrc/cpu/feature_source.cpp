#include "cpu/feature_source.h"

#include <algorithm>
#include <mutex>

#include "common/parallel.h"

namespace deeplab_native {
namespace {

// f(pixel): those of a channel as floats, whatever their type.
template <class F>
void with_pixels(const Image& image, int64_t channel, const F& f) {
  const int64_t first = channel * image.strides[0];
  const auto [_, deeper, down, right] = image.strides;
  const auto as = [&](const auto* data) {
    f([=](int64_t z, int64_t y, int64_t x) {
      return static_cast<float>(data[first + z * deeper + y * down + x * right]);
    });
  };
  switch (image.type) {
    case PixelType::kUint8:
      return as(static_cast<const uint8_t*>(image.data));
    case PixelType::kFloat32:
      return as(static_cast<const float*>(image.data));
    case PixelType::kFloat64:
      return as(static_cast<const double*>(image.data));
  }
}

// Of value(i) for i in [0, n).
template <class F>
FeatureRange range_of(int64_t n, int64_t grain, int num_threads, const F& accumulate) {
  FeatureRange total;
  std::mutex mutex;
  parallel_for(num_threads, n, grain, [&](int64_t begin, int64_t end) {
    FeatureRange r;
    float not_finite = 0;  // x - x is 0 for finite x, else NaN
    const auto add = [&](float x) {
      r.least = x < r.least ? x : r.least;
      r.most = x > r.most ? x : r.most;
      not_finite += x - x;
    };
    accumulate(begin, end, add);
    const std::lock_guard lock(mutex);
    total.least = std::min(total.least, r.least);
    total.most = std::max(total.most, r.most);
    total.finite = total.finite && not_finite == 0;
  });
  return total;
}

void repeat_last(int count, float* out) {
  for (int i = count; i < kBlock; ++i) out[i] = out[count - 1];
}

}  // namespace

void ArrayFeatures::gather(const Blocks::Span& span, float* out) const {
  for (int k = 0; k < d; ++k, out += kBlock) {
    const float* from = f_.data + span.first * f_.point_stride + k * f_.dim_stride;
    for (int i = 0; i < span.count; ++i) out[i] = from[i * f_.point_stride];
    repeat_last(span.count, out);
  }
}

FeatureRange ArrayFeatures::range(int k, int num_threads) const {
  const float* from = f_.data + k * f_.dim_stride;
  return range_of(n, 1 << 15, num_threads, [&](int64_t begin, int64_t end, const auto& add) {
    for (int64_t i = begin; i < end; ++i) add(from[i * f_.point_stride]);
  });
}

void PixelFeatures::gather(const Blocks::Span& span, float* out) const {
  const int axes = image_.axes;
  const int64_t height = image_.size[1];
  int64_t row = span.first / width, x = span.first - row * width;
  const int in_row = static_cast<int>(std::min<int64_t>(span.count, width - x));
  // Blocks of images that are no multiple of 16 wide may go on in the rows below.
  for (int done = 0, count = in_row; done < span.count; ++row, x = 0) {
    const int64_t z = axes == 2 ? 0 : row / height, y = row - z * height;
    for (int k = 0; k < axes; ++k) {
      float* to = out + k * kBlock + done;
      const int axis = image_.axis_of(k);
      const float sigma = image_.sigmas[axis];
      if (axis == 2) {
        for (int i = 0; i < count; ++i) to[i] = static_cast<float>(x + i) / sigma;
      } else {
        std::fill_n(to, count, static_cast<float>(axis == 1 ? y : z) / sigma);
      }
    }
    for (int k = axes; k < d; ++k) {
      const float sigma = image_.channel_sigmas[k - axes];
      float* to = out + k * kBlock + done;
      with_pixels(image_, k - axes, [&](const auto& pixel) {
        for (int i = 0; i < count; ++i) to[i] = pixel(z, y, x + i) / sigma;
      });
    }
    done += count;
    count = static_cast<int>(std::min<int64_t>(span.count - done, width));
  }
  for (int k = 0; k < d; ++k) repeat_last(span.count, out + k * kBlock);
}

FeatureRange PixelFeatures::range(int k, int num_threads) const {
  if (n == 0) return {};
  if (k < image_.axes) {
    const int axis = image_.axis_of(k);
    return {0, static_cast<float>(image_.size[axis] - 1) / image_.sigmas[axis], true};
  }
  const int channel = k - image_.axes;
  const float sigma = image_.channel_sigmas[channel];
  if (image_.type == PixelType::kUint8) return {0, 255 / sigma, true};
  const int64_t height = image_.size[1];
  FeatureRange range;
  with_pixels(image_, channel, [&](const auto& pixel) {
    const auto rows = [&](int64_t begin, int64_t end, const auto& add) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t z = row / height, y = row - z * height;
        for (int64_t x = 0; x < width; ++x) add(pixel(z, y, x) / sigma);
      }
    };
    range = range_of(image_.rows(), 64, num_threads, rows);
  });
  return range;
}

}  // namespace deeplab_native
