// Each tile of points is one thread's, whatever comes next in line: how many others a tile meets
// differs a hundredfold. What a tile adds up, and in which order, does not depend on whose it is.
#include "ops/gauss_transform.h"

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "common/buffer.h"
#include "common/isa.h"
#include "common/parallel.h"
#include "cpu/gauss_transform_kernel.h"

namespace deeplab_native {
namespace {

template <class T>
GaussKernels<T> gauss_kernels() {
  GaussKernelTable table;
  switch (current_isa()) {
#if defined(DEEPLAB_X86_64)
    case Isa::kAvx512:
      avx512::fill(&table);
      break;
    case Isa::kAvx2:
      avx2::fill(&table);
      break;
#endif
    default:
      baseline::fill(&table);
  }
  if constexpr (std::is_same_v<T, double>) {
    return table.f64;
  } else {
    return table.f32;
  }
}

// The points in blocks of 16, columns [blocks][d][16], and their boxes, [groups][d][16].
template <class T>
class Blocked {
 public:
  Blocked(int64_t n, int d)
      : n_(n),
        d_(d),
        blocks_((n + kGaussBlock - 1) / kGaussBlock),
        groups_((blocks_ + kGaussBlock - 1) / kGaussBlock),
        columns_(blocks_ * d * kGaussBlock),
        low_(groups_ * d * kGaussBlock),
        high_(groups_ * d * kGaussBlock) {}

  void take(const T* features, int num_threads) {
    parallel_for(num_threads, groups_, 16, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin * kGaussBlock; block < end * kGaussBlock; ++block) {
        take_block(features, block);
      }
    });
  }
  const T* columns() const { return columns_.data(); }
  const T* low() const { return low_.data(); }
  const T* high() const { return high_.data(); }

 private:
  void take_block(const T* features, int64_t block) {
    const int64_t last = n_ - 1, first = std::min(block, blocks_ - 1) * kGaussBlock;
    for (int k = 0; k < d_; ++k) {
      T low = features[first * d_ + k], high = low;
      for (int i = 0; i < kGaussBlock; ++i) {
        const T f = features[std::min(first + i, last) * d_ + k];
        low = std::min(low, f);
        high = std::max(high, f);
        if (block < blocks_) columns_[(block * d_ + k) * kGaussBlock + i] = f;
      }
      const int64_t at = (block / kGaussBlock * d_ + k) * kGaussBlock + block % kGaussBlock;
      low_[at] = low;
      high_[at] = high;
    }
  }

  const int64_t n_;
  const int d_;
  const int64_t blocks_, groups_;
  Buffer<T> columns_, low_, high_;
};

template <class T>
void run(const GaussPoints<T>& points, const T* values, const T* grad, T* out, int64_t num_channels,
         int num_threads) {
  const auto kernels = gauss_kernels<T>();
  const int64_t n = points.num_points, rows = grad == nullptr ? num_channels : points.d;
  if (n == 0) return;
  const int64_t tiles = (n + kernels.width - 1) / kernels.width;
  Blocked<T> blocked(n, points.d);
  for (int64_t b = 0; b < points.images; ++b) {
    const T* features = points.features + b * n * points.d;
    blocked.take(features, num_threads);
    const GaussPass<T> pass{features,
                            blocked.columns(),
                            blocked.low(),
                            blocked.high(),
                            n,
                            points.d,
                            points.far,
                            num_channels,
                            values + b * n * num_channels,
                            grad == nullptr ? nullptr : grad + b * n * num_channels,
                            out + b * n * rows};
    std::atomic<int64_t> next{0};
    const int threads = static_cast<int>(std::min<int64_t>(std::max(1, num_threads), tiles));
    run_team(threads, [&](Team&) {
      Buffer<T> scratch(kernels.scratch(num_channels, points.d));
      for (int64_t tile; (tile = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
        (grad == nullptr ? kernels.transform : kernels.features)(pass, tile, scratch.data());
      }
    });
  }
}

}  // namespace

template <class T>
void gauss_transform_cpu(const GaussPoints<T>& points, const T* values, T* out,
                         int64_t num_channels, int num_threads) {
  run<T>(points, values, nullptr, out, num_channels, num_threads);
}
template <class T>
void gauss_transform_features_cpu(const GaussPoints<T>& points, const T* values, const T* grad,
                                  T* grad_features, int64_t num_channels, int num_threads) {
  run<T>(points, values, grad, grad_features, num_channels, num_threads);
}

template void gauss_transform_cpu(const GaussPoints<float>&, const float*, float*, int64_t, int);
template void gauss_transform_cpu(const GaussPoints<double>&, const double*, double*, int64_t, int);
template void gauss_transform_features_cpu(const GaussPoints<float>&, const float*, const float*,
                                           float*, int64_t, int);
template void gauss_transform_features_cpu(const GaussPoints<double>&, const double*, const double*,
                                           double*, int64_t, int);

}  // namespace deeplab_native
