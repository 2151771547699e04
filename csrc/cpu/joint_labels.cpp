// Splatting the cells' marginals, and labels of pixels that look them up.
#include "ops/joint_labels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "common/parallel.h"
#include "cpu/joint_lattice.h"
#include "cpu/lattice_keys.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native {
namespace {

constexpr int kMostCorners = kMaxFeatureDim + 1;
constexpr float kNoMass = 1e-20f;  // as in the mean field's normalisation

// alpha K 1 to the power that a side of the filter is scaled with.
float scale_of(float mass, Normalization normalization, bool splatted) {
  switch (normalization) {
    case Normalization::kNone:
      return 1;
    case Normalization::kBefore:
      return splatted ? 1 / (mass + kNoMass) : 1;
    case Normalization::kAfter:
      return splatted ? 1 : 1 / (mass + kNoMass);
    case Normalization::kSymmetric:
      return 1 / std::sqrt(mass + kNoMass);
  }
  return 1;
}

// Of `count` pixels, [labels][16].
void load(const float* scores, int64_t plane, int labels, int count, float* x) {
  for (int l = 0; l < labels; ++l) {
    const float* from = scores + l * plane;
    float* to = x + l * kBlock;
    if (count == kBlock) {
      std::copy_n(from, kBlock, to);
    } else {
      std::copy_n(from, count, to);
      std::fill_n(to + count, kBlock - count, 0.0f);
    }
  }
}

// The first of the largest of [labels][16].
void largest(const float* x, int labels, int count, uint8_t* out) {
  float best[kBlock];
  int32_t label[kBlock] = {};
  std::copy_n(x, kBlock, best);
  for (int l = 1; l < labels; ++l) {
    for (int i = 0; i < kBlock; ++i) {
      const float value = x[l * kBlock + i];
      label[i] = value > best[i] ? l : label[i];
      best[i] = std::max(best[i], value);
    }
  }
  for (int i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(label[i]);
}

template <int K>
class Message final : public JointMessage {
 public:
  Message(const Image& image, const KeyLayout& layout, Normalization normalization)
      : image_(image),
        source_(image_),
        lattice_(layout),
        d_(layout.d),
        corners_(d_ + 1),
        normalization_(normalization),
        alpha_(alpha_of(d_)) {}

  int64_t num_vertices() const override { return lattice_.size(); }

  void splat(const JointCells& cells, int num_threads) {
    const int64_t n = cells.features.n;
    Buffer<int32_t> vertices(n * corners_);
    Buffer<float> weights(n * corners_);
    lattice_.insert(cells.features, &vertices, &weights);
    const int32_t count = lattice_.size();
    lattice_.find_neighbours(num_threads);

    // masses of the cells, alpha K 1, then marginals: the last channel of a row is the mass
    labels_ = cells.num_labels;
    stride_ = row_stride(labels_ + 1);
    std::vector<float> mass(count, 0.0f);
    for (int64_t k = 0; k < n * corners_; ++k) mass[vertices[k]] += weights[k];
    lattice_.blur(1, &mass, num_threads);
    rows_.assign(size_t(count) * stride_, 0.0f);
    for (int64_t i = 0; i < n; ++i) {
      const int32_t* of = &vertices[i * corners_];
      const float* w = &weights[i * corners_];
      float sum = 0;
      for (int r = 0; r < corners_; ++r) sum += w[r] * mass[of[r]];
      const float scale = scale_of(alpha_ * sum, normalization_, true);
      for (int r = 0; r < corners_; ++r) {
        float* row = &rows_[size_t(of[r]) * stride_];
        for (int l = 0; l < labels_; ++l) row[l] += w[r] * scale * cells.q[l * n + i];
      }
    }
    lattice_.blur(stride_, &rows_, num_threads);
    // alpha, and what a cell counts for, once for all pixels
    const float factor =
        normalization_ == Normalization::kNone ? alpha_ * cells.pixels_in_each : alpha_;
    for (int32_t v = 0; v < count; ++v) {
      float* row = &rows_[size_t(v) * stride_];
      for (int l = 0; l < labels_; ++l) row[l] *= factor;
      row[labels_] = alpha_ * mass[v];
    }
    lattice_.forget_neighbours();
    find_bounds();
  }

  void label(const JointBand& band, int all_labels, const std::vector<int>& labels, float weight,
             uint8_t* out, int num_threads) const override {
    // what the message can add to a label at the most
    std::vector<float> most(all_labels, 0.0f);
    for (int l = 0; l < labels_; ++l) {
      most[labels[l]] = weight >= 0 ? weight * bounds_[l] : std::numeric_limits<float>::infinity();
    }
    const int64_t across = (image_.size[2] + kBlock - 1) / kBlock,
                  plane = band.count * image_.size[2];
    parallel_for(num_threads, band.count * across, 64, [&](int64_t begin, int64_t end) {
      std::vector<float> x(size_t(all_labels) * kBlock), sums(size_t(kBlock) * stride_);
      for (int64_t b = begin; b < end; ++b) {
        const int64_t row = b / across, column = b % across * kBlock;
        const int count = static_cast<int>(std::min<int64_t>(kBlock, image_.size[2] - column));
        const int64_t at = row * image_.size[2] + column;
        load(band.scores + at, plane, all_labels, count, x.data());
        uint8_t wanted[kBlock];
        if (undecided(x.data(), most.data(), all_labels, count, wanted)) {
          slice(band.first + row, column, count, wanted, sums.data());
          for (int i = 0; i < count; ++i) {
            if (wanted[i]) add_to(&sums[size_t(i) * stride_], labels, weight, &x[i], kBlock);
          }
        }
        largest(x.data(), all_labels, count, out + at);
      }
    });
  }

  void add(const JointBand& band, const std::vector<int>& labels, float weight,
           int num_threads) const override {
    const int64_t across = (image_.size[2] + kBlock - 1) / kBlock,
                  plane = band.count * image_.size[2];
    uint8_t all[kBlock];
    std::fill_n(all, kBlock, uint8_t{1});
    parallel_for(num_threads, band.count * across, 64, [&](int64_t begin, int64_t end) {
      std::vector<float> sums(size_t(kBlock) * stride_);
      for (int64_t b = begin; b < end; ++b) {
        const int64_t row = b / across, column = b % across * kBlock;
        const int count = static_cast<int>(std::min<int64_t>(kBlock, image_.size[2] - column));
        float* at = band.scores + row * image_.size[2] + column;
        slice(band.first + row, column, count, all, sums.data());
        for (int i = 0; i < count; ++i) {
          add_to(&sums[size_t(i) * stride_], labels, weight, at + i, plane);
        }
      }
    });
  }

 private:
  // F_l(i) = n_i sum_v b_iv R_l(v) <= max_v R_l(v) / p(M(v)), with n_i = 1 / p(sum_v b_iv M(v)):
  // p is 1, x or its root, and by Jensen sum b p(M) <= p(sum b M).
  void find_bounds() {
    bounds_.assign(labels_, 0.0f);
    for (int32_t v = 0; v < lattice_.size(); ++v) {
      const float* row = &rows_[size_t(v) * stride_];
      const float scale = scale_of(row[labels_], normalization_, false);
      for (int l = 0; l < labels_; ++l) bounds_[l] = std::max(bounds_[l], row[l] * scale);
    }
    for (float& bound : bounds_) bound *= 1.0001f;  // for the rounding
  }

  // Which pixels have more than one label that can still be the largest; whether there is any.
  static bool undecided(const float* x, const float* most, int labels, int count, uint8_t* wanted) {
    float best[kBlock];
    std::copy_n(x, kBlock, best);
    for (int l = 1; l < labels; ++l) {
      for (int i = 0; i < kBlock; ++i) best[i] = std::max(best[i], x[l * kBlock + i]);
    }
    int32_t able[kBlock] = {};
    for (int l = 0; l < labels; ++l) {
      for (int i = 0; i < kBlock; ++i) able[i] += x[l * kBlock + i] + most[l] >= best[i];
    }
    bool any = false;
    for (int i = 0; i < count; ++i) any |= wanted[i] = able[i] > 1;
    return any;
  }

  // n_i sum b R of the wanted ones of 16 pixels in a row, [16][stride].
  void slice(int64_t y, int64_t column, int count, const uint8_t* wanted, float* sums) const {
    alignas(64) float features[kMaxFeatureDim * kBlock];
    alignas(64) Embedding e;
    Key<K> keys[kMostCorners * kBlock];
    source_.gather({y * image_.size[2] + column, count}, features);
    lattice_.keys_of(features, &e, keys);
    int32_t vertices[kMostCorners * kBlock];
    for (int r = 0; r <= d_; ++r) {
      // neighbours often have the same vertex as the same corner
      const Key<K>* own = keys + r * kBlock;
      int last = -1;
      for (int i = 0; i < count; ++i) {
        if (!wanted[i]) continue;
        const bool same = last >= 0 && own[i] == own[last];
        vertices[r * kBlock + i] = same ? vertices[r * kBlock + last] : lattice_.find(own[i]);
        last = i;
      }
    }
    for (int i = 0; i < count; ++i) {
      if (!wanted[i]) continue;
      float* sum = sums + size_t(i) * stride_;
      std::fill_n(sum, stride_, 0.0f);
      for (int r = 0; r <= d_; ++r) {
        const int32_t v = vertices[r * kBlock + i];
        if (v < 0) continue;  // no cell is near
        const float w = e.weights[r][i];
        const float* row = &rows_[size_t(v) * stride_];
        for (int c = 0; c < stride_; ++c) sum[c] += w * row[c];
      }
      const float scale = scale_of(sum[labels_], normalization_, false);
      for (int l = 0; l < labels_; ++l) sum[l] *= scale;
    }
  }

  void add_to(const float* sum, const std::vector<int>& labels, float weight, float* x,
              int64_t plane) const {
    for (int l = 0; l < labels_; ++l) x[labels[l] * plane] += weight * sum[l];
  }

  const Image image_;
  const PixelFeatures source_;
  JointLattice<K> lattice_;
  const int d_, corners_;
  const Normalization normalization_;
  const float alpha_;
  int labels_ = 0, stride_ = 0;
  std::vector<float> rows_;    // [vertices][stride]: R, and alpha K 1
  std::vector<float> bounds_;  // of F_l
};

template <int K>
std::unique_ptr<JointMessage> build(const Image& image, const KeyLayout& layout,
                                    const JointCells& cells, Normalization normalization,
                                    int num_threads) {
  auto message = std::make_unique<Message<K>>(image, layout, normalization);
  message->splat(cells, num_threads);
  return message;
}

}  // namespace

void largest_labels_cpu(const float* scores, int labels, int64_t plane, uint8_t* out,
                        int num_threads) {
  parallel_for(num_threads, (plane + kBlock - 1) / kBlock, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> x(size_t(labels) * kBlock);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t at = b * kBlock;
      const int count = static_cast<int>(std::min<int64_t>(kBlock, plane - at));
      load(scores + at, plane, labels, count, x.data());
      largest(x.data(), labels, count, out + at);
    }
  });
}

std::unique_ptr<JointMessage> joint_message_cpu(const Image& image, const JointCells& cells,
                                                Normalization normalization, int num_threads) {
  const PixelFeatures source(image);
  const KeyLayout layout = key_layout(source, num_threads);
  const auto with = layout.num_words == 1   ? build<1>
                    : layout.num_words == 2 ? build<2>
                    : layout.num_words <= 4 ? build<4>
                                            : build<8>;
  return with(image, layout, cells, normalization, num_threads);
}

}  // namespace deeplab_native
