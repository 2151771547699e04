// The pass over the pixels for two labels: 16 pixels are a vector, a vertex has one value.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

using Sixteen = Row<float, kBlock>;
constexpr int kW = kLanes<float>;
using F = Vec<float, kW>;
using I = Vec<uint32_t, kW>;

// kMostDim: of the features of all kernels.
template <int kMostDim>
class TwoLabelsBlock {
 public:
  explicit TwoLabelsBlock(const TwoLabelsPass& pass) : p_(pass) {}

  void run(int64_t block) {
    const Blocks::Span span = (*p_.blocks)[block];
    for (int lane = 0; lane < kBlock; lane += kW) {
      const int64_t first = block * kBlock + lane;
      F x = load<float, kW>(p_.unary_1 + first) - load<float, kW>(p_.unary_0 + first);
      for (int k = 0; p_.reads && k < p_.num_kernels; ++k) {
        x = x +
            slice(p_.kernels[k], block, lane) * load<float, kW>(p_.kernels[k].scale_out + first);
      }
      const F small = exp<kW>(x < 0.0f ? x : -x);  // exp(-|x|)
      const F large = 1.0f / (1.0f + small);       // the marginal of the likelier label
      store<float, kW>(q0_ + lane, x < 0.0f ? small * large : large);
      store<float, kW>(q1_ + lane, x < 0.0f ? large : small * large);
    }
    if (p_.writes) {
      const bool usual = p_.num_kernels == 2 && p_.kernels[0].corners == kGaussianCorners &&
                         p_.kernels[1].corners == kBilateralCorners;
      int first = 0;
      for (int k = 0; k < p_.num_kernels; ++k) {
        prepare_splat(p_.kernels[k], block, usual ? first : 0);
        if (!usual) add_pixels(p_.kernels[k]);
        first += p_.kernels[k].corners;
      }
      if (usual) add_pixels_of_both();
    }
    if (p_.q_out) {
      float* const to = p_.q_out + span.first;
      for (int i = 0; i < span.count; ++i) to[i] = q0_[i];
      for (int i = 0; i < span.count; ++i) to[p_.blocks->num_points() + i] = q1_[i];
    }
  }

 private:
  static DEEPLAB_INLINE F slice(const TwoLabelsKernel& k, int64_t block, int lane) {
    if (k.corners == kGaussianCorners) return slice<kGaussianCorners>(k, block, lane);
    if (k.corners == kBilateralCorners) return slice<kBilateralCorners>(k, block, lane);
    return slice<0>(k, block, lane);
  }
  template <int kCorners>
  static DEEPLAB_INLINE F slice(const TwoLabelsKernel& k, int64_t block, int lane) {
    const int corners = kCorners > 0 ? kCorners : k.corners;
    const uint32_t* entries = k.entries + block * corners * kBlock + lane;
    const float* weights = k.weights + block * corners * kBlock + lane;
    F sum{};
#pragma GCC unroll 6
    for (int r = 0; r < corners; ++r) {
      const I vertices = load<uint32_t, kW>(entries + r * kBlock) / uint32_t{kPlane};
      sum = fma(load<float, kW>(weights + r * kBlock), gather<kW>(k.read, vertices), sum);
    }
    return sum;
  }

  // Rows and what is to be added to them, from corner `first` on.
  void prepare_splat(const TwoLabelsKernel& k, int64_t block, int first) {
    for (int32_t v = k.fresh[block]; v < k.fresh[block + 1]; ++v) k.write[v] = 0;
    for (int lane = 0; lane < kBlock; lane += kW) {
      const F z = load<float, kW>(q0_ + lane) - load<float, kW>(q1_ + lane);
      const F value = z * load<float, kW>(k.scale_in + block * kBlock + lane);
      for (int r = 0; r < k.corners; ++r) {
        const int64_t from = (block * k.corners + r) * kBlock + lane;
        const I entry = load<uint32_t, kW>(k.entries + from);
        const I row = (entry + (entry < k.shared ? I{} + k.copies : I{})) / uint32_t{kPlane};
        store<uint32_t, kW>(rows_ + (first + r) * kBlock + lane, row);
        store<float, kW>(scaled_ + (first + r) * kBlock + lane,
                         value * load<float, kW>(k.weights + from));
      }
    }
  }

  // Pixel by pixel, and both kernels together: neighbours often add to the same row, and wait for
  // each other's sum.
  void add_pixels_of_both() const {
    float *const gaussian = p_.kernels[0].write, *const bilateral = p_.kernels[1].write;
    for (int i = 0; i < kBlock; ++i) {
#pragma GCC unroll 3
      for (int r = 0; r < kGaussianCorners; ++r) {
        gaussian[rows_[r * kBlock + i]] += scaled_[r * kBlock + i];
      }
#pragma GCC unroll 6
      for (int r = kGaussianCorners; r < kGaussianCorners + kBilateralCorners; ++r) {
        bilateral[rows_[r * kBlock + i]] += scaled_[r * kBlock + i];
      }
    }
  }
  void add_pixels(const TwoLabelsKernel& k) const {
    for (int i = 0; i < kBlock; ++i) {
      for (int r = 0; r < k.corners; ++r) {
        k.write[rows_[r * kBlock + i]] += scaled_[r * kBlock + i];
      }
    }
  }

  const TwoLabelsPass& p_;
  alignas(64) float q0_[kBlock], q1_[kBlock];
  // Of the corners of one kernel, or of both usual ones.
  alignas(64) uint32_t rows_[(kMostDim + 1) * kBlock];
  alignas(64) float scaled_[(kMostDim + 1) * kBlock];
};

void two_labels(const TwoLabelsPass& pass, int64_t begin, int64_t end) {
  FlushDenormals flush;
  int corners = 0;
  for (int k = 0; k < pass.num_kernels; ++k) {
    corners = corners < pass.kernels[k].corners ? pass.kernels[k].corners : corners;
  }
  const auto run = [&](auto block_pass) {
    for (int64_t b = begin; b < end; ++b) block_pass.run(b);
  };
  if (corners <= kPackedDim + 1) {
    run(TwoLabelsBlock<kPackedDim>(pass));
  } else {
    run(TwoLabelsBlock<kMaxFeatureDim>(pass));
  }
}

}  // namespace

void fill_two_labels(SimdKernels* kernels) { kernels->two_labels = two_labels; }

}  // namespace deeplab_native::DEEPLAB_ISA
