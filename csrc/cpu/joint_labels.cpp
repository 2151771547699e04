// The lattice of the cells with its hash table kept, so that pixels find their vertices in it.
#include "ops/joint_labels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "common/parallel.h"
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
        layout_(layout),
        d_(layout.d),
        corners_(d_ + 1),
        normalization_(normalization),
        alpha_(1.0f / (1.0f + std::pow(2.0f, -static_cast<float>(d_)))) {
    for (int j = 0; j < d_; ++j) {
      unit_[j] = unit<K>(layout_, j);
      ones_ = ones_ + unit_[j];
    }
    for (int j = 0; j < d_; ++j) {
      for (int k = 0; k <= d_; ++k) wrap_[j] = wrap_[j] + unit_[j];
    }
  }

  int64_t num_vertices() const override { return table_.size(); }

  void splat(const JointCells& cells, int num_threads) {
    const int64_t n = cells.features.n;
    Buffer<int32_t> vertices(n * corners_);
    Buffer<float> weights(n * corners_);
    insert(cells.features, &vertices, &weights);
    const int32_t count = table_.size();
    find_neighbours(num_threads);

    // masses of the cells, alpha K 1, then marginals: the last channel of a row is the mass
    labels_ = cells.num_labels;
    stride_ = row_stride(labels_ + 1);
    std::vector<float> mass(count, 0.0f);
    for (int64_t k = 0; k < n * corners_; ++k) mass[vertices[k]] += weights[k];
    blur(1, &mass, num_threads);
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
    blur(stride_, &rows_, num_threads);
    // alpha, and what a cell counts for, once for all pixels
    const float factor =
        normalization_ == Normalization::kNone ? alpha_ * cells.pixels_in_each : alpha_;
    for (int32_t v = 0; v < count; ++v) {
      float* row = &rows_[size_t(v) * stride_];
      for (int l = 0; l < labels_; ++l) row[l] *= factor;
      row[labels_] = alpha_ * mass[v];
    }
    neighbours_ = {};
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
  // Keys of the vertices of 16 points, [d + 1][16]; see Builder::point_keys of lattice_build.cpp.
  void keys_of(const float* features, Embedding* e, Key<K>* keys) const {
    simd_kernels().embed(features, layout_.scale.data(), d_, e);
    if constexpr (K == 1) {
      simd_kernels().pack_keys(*e, layout_.shift.data(), layout_.least.data(), d_,
                               &keys[0].words[0]);
      return;
    }
    for (int i = 0; i < kBlock; ++i) {
      int axis_of_rank[kMostCorners];
      Key<K> key{};
      for (int j = 0; j <= d_; ++j) {
        axis_of_rank[e->rank[j][i]] = j;
        if (j < d_) {
          key.words[layout_.word[j]] +=
              static_cast<uint64_t>(e->remainder0[j][i] - layout_.least[j]) << layout_.shift[j];
        }
      }
      keys[i] = key;
      for (int r = 1; r <= d_; ++r) {
        key = key + ones_ - wrap_[axis_of_rank[d_ + 1 - r]];
        keys[r * kBlock + i] = key;
      }
    }
  }

  // In the order of the cells, by one thread: vertices have the same numbers for any count of them.
  void insert(const Features& cells, Buffer<int32_t>* vertices, Buffer<float>* weights) {
    const ArrayFeatures source(cells);
    alignas(64) float features[kMaxFeatureDim * kBlock];
    alignas(64) Embedding e;
    Key<K> keys[kMostCorners * kBlock];
    for (int64_t first = 0; first < cells.n; first += kBlock) {
      const int count = static_cast<int>(std::min<int64_t>(kBlock, cells.n - first));
      source.gather({first, count}, features);
      keys_of(features, &e, keys);
      for (int k = 0; k < corners_ * kBlock; ++k) table_.prefetch(keys[k]);
      for (int i = 0; i < count; ++i) {
        for (int r = 0; r < corners_; ++r) {
          (*vertices)[(first + i) * corners_ + r] = table_.insert(keys[r * kBlock + i]);
          (*weights)[(first + i) * corners_ + r] = e.weights[r][i];
        }
      }
    }
  }

  // Of each axis and vertex, the one before and the one after, or -1.
  void find_neighbours(int num_threads) {
    const int32_t count = table_.size();
    neighbours_.resize(size_t(corners_) * count * 2);
    for (int j = 0; j <= d_; ++j) {
      const Key<K> delta = wrap_[j] - ones_;
      int32_t* of = neighbours_.data() + size_t(j) * count * 2;
      parallel_for(num_threads, count, 1 << 12, [&](int64_t begin, int64_t end) {
        constexpr int kLookAhead = 8;
        for (int64_t v = begin; v < end; ++v) {
          if (v + kLookAhead < end) {
            const Key<K>& later = table_.key(static_cast<int32_t>(v) + kLookAhead);
            table_.prefetch(later - delta);
            table_.prefetch(later + delta);
          }
          const Key<K>& key = table_.key(static_cast<int32_t>(v));
          of[2 * v] = table_.find(key - delta);
          of[2 * v + 1] = table_.find(key + delta);
        }
      });
    }
  }

  // [1/2, 1, 1/2] along each axis.
  void blur(int stride, std::vector<float>* values, int num_threads) const {
    const int32_t count = table_.size();
    std::vector<float> next(values->size());
    for (int j = 0; j <= d_; ++j) {
      const int32_t* of = neighbours_.data() + size_t(j) * count * 2;
      const float* from = values->data();
      parallel_for(num_threads, count, 1 << 12, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) {
          const float* row = from + v * stride;
          float* to = next.data() + v * stride;
          const int32_t a = of[2 * v], b = of[2 * v + 1];
          const float wa = a >= 0 ? 0.5f : 0.0f, wb = b >= 0 ? 0.5f : 0.0f;
          const float* before = from + int64_t{std::max(a, 0)} * stride;
          const float* after = from + int64_t{std::max(b, 0)} * stride;
          for (int c = 0; c < stride; ++c) to[c] = row[c] + (wa * before[c] + wb * after[c]);
        }
      });
      values->swap(next);
    }
  }

  // F_l(i) = n_i sum_v b_iv R_l(v) <= max_v R_l(v) / p(M(v)), with n_i = 1 / p(sum_v b_iv M(v)):
  // p is 1, x or its root, and by Jensen sum b p(M) <= p(sum b M).
  void find_bounds() {
    bounds_.assign(labels_, 0.0f);
    for (int32_t v = 0; v < table_.size(); ++v) {
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
    keys_of(features, &e, keys);
    int32_t vertices[kMostCorners * kBlock];
    for (int r = 0; r <= d_; ++r) {
      // neighbours often have the same vertex as the same corner
      const Key<K>* own = keys + r * kBlock;
      int last = -1;
      for (int i = 0; i < count; ++i) {
        if (!wanted[i]) continue;
        const bool same = last >= 0 && own[i] == own[last];
        vertices[r * kBlock + i] = same ? vertices[r * kBlock + last] : table_.find(own[i]);
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
  const KeyLayout layout_;
  const int d_, corners_;
  const Normalization normalization_;
  const float alpha_;
  Key<K> unit_[kMostCorners]{}, wrap_[kMostCorners]{}, ones_{};
  HashTable<K> table_;
  std::vector<int32_t> neighbours_;  // [d + 1][vertices][2], while it is built
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
