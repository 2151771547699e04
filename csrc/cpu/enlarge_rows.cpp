// Bilinear interpolation of some rows: along x once for each row of the planes that is met, along y
// for every row that is asked for. A pixel's value does not depend on which rows come with it.
#include <vector>

#include "common/parallel.h"
#include "ops/joint_labels.h"

namespace deeplab_native {
namespace {

// Rows of a plane, interpolated along x: the last two that were asked for are kept.
class WideRows {
 public:
  WideRows(const Taps& across, int64_t out_width) : across_(across), width_(out_width) {
    for (auto& values : values_) values.resize(out_width);
  }
  // The row `from` begins at; valid until two other rows were asked for.
  const float* row(const float* from) {
    for (int i = 0; i < 2; ++i) {
      if (from_[i] == from) return last_ = i, values_[i].data();
    }
    last_ = 1 - last_;
    from_[last_] = from;
    float* to = values_[last_].data();
    for (int64_t x = 0; x < width_; ++x) {
      const float f = across_.fraction[x];
      to[x] = (1 - f) * from[across_.low[x]] + f * from[across_.high[x]];
    }
    return to;
  }

 private:
  const Taps& across_;
  const int64_t width_;
  std::vector<float> values_[2];
  const float* from_[2] = {nullptr, nullptr};
  int last_ = 0;
};

}  // namespace

void enlarge_rows_cpu(const float* planes, int64_t num_planes, int64_t height, int64_t width,
                      const Taps& down, const Taps& across, int64_t first, int64_t count,
                      int64_t out_width, bool add, float factor, float* out, int num_threads) {
  const auto body = [&](int64_t begin, int64_t end) {
    WideRows wide(across, out_width);
    for (int64_t row = begin; row < end; ++row) {
      const float* plane = planes + row / count * height * width;
      const int64_t y = first + row % count;
      const float* upper = wide.row(plane + down.low[y] * width);
      const float* lower = wide.row(plane + down.high[y] * width);
      const float f = down.fraction[y] * factor, rest = factor - f;
      float* to = out + row * out_width;
      if (add) {
        for (int64_t x = 0; x < out_width; ++x) to[x] += rest * upper[x] + f * lower[x];
      } else {
        for (int64_t x = 0; x < out_width; ++x) to[x] = rest * upper[x] + f * lower[x];
      }
    }
  };
  parallel_for(num_threads, num_planes * count, 8, body);
}

}  // namespace deeplab_native
