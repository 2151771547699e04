#include "cpu/feature_source.h"

#include <algorithm>
#include <mutex>

#include "common/parallel.h"

namespace deeplab_native {
namespace {

// f(value_of, divisor): the pixels of a channel as floats, whatever their type.
template <class F>
void with_pixels(const Image& image, int64_t channel, const F& f) {
  const int64_t first = channel * image.strides[0];
  const auto [_, down, right] = image.strides;
  const auto as = [&](const auto* data) {
    f([=](int64_t y, int64_t x) { return static_cast<float>(data[first + y * down + x * right]); });
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
  int64_t y = span.first / width, x = span.first - y * width;
  const int in_row = static_cast<int>(std::min<int64_t>(span.count, width - x));
  // Blocks of images that are no multiple of 16 wide may go on in the rows below.
  for (int done = 0, count = in_row; done < span.count; ++y, x = 0) {
    for (int i = 0; i < count; ++i) {
      out[done + i] = static_cast<float>(x + i) / sigma_x_;
      out[kBlock + done + i] = static_cast<float>(y) / sigma_y_;
    }
    for (int k = 2; k < d; ++k) {
      const float sigma = sigma_colour_[k - 2];
      float* to = out + k * kBlock + done;
      with_pixels(image_, k - 2, [&](const auto& pixel) {
        for (int i = 0; i < count; ++i) to[i] = pixel(y, x + i) / sigma;
      });
    }
    done += count;
    count = static_cast<int>(std::min<int64_t>(span.count - done, width));
  }
  for (int k = 0; k < d; ++k) repeat_last(span.count, out + k * kBlock);
}

FeatureRange PixelFeatures::range(int k, int num_threads) const {
  if (n == 0) return {};
  if (k == 0) return {0, static_cast<float>(width - 1) / sigma_x_, true};
  if (k == 1) return {0, static_cast<float>(height_ - 1) / sigma_y_, true};
  if (image_.type == PixelType::kUint8) return {0, 255 / sigma_colour_[k - 2], true};
  FeatureRange range;
  with_pixels(image_, k - 2, [&](const auto& pixel) {
    range = range_of(height_, 64, num_threads, [&](int64_t begin, int64_t end, const auto& add) {
      for (int64_t y = begin; y < end; ++y) {
        for (int64_t x = 0; x < width; ++x) add(pixel(y, x) / sigma_colour_[k - 2]);
      }
    });
  });
  return range;
}

}  // namespace deeplab_native
