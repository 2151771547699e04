// Where the lattice gets the features of its points from: an array, or the pixels of an image.
#pragma once
#include <limits>

#include "ops/pairwise_features.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

struct FeatureRange {
  float least = std::numeric_limits<float>::infinity();
  float most = -std::numeric_limits<float>::infinity();
  bool finite = true;
};

class FeatureSource {
 public:
  FeatureSource(int64_t num_points, int dim, int64_t image_width, bool like_pydensecrf,
                bool is_bridged)
      : n(num_points),
        d(dim),
        width(image_width),
        has_zero_point(like_pydensecrf && n % 4 != 0),
        bridged(is_bridged) {}
  virtual ~FeatureSource() = default;

  // out [d][16]: of the points of a block; the missing ones repeat one that is there.
  virtual void gather(const Blocks::Span& span, float* out) const = 0;
  // What feature k of all points lies between.
  virtual FeatureRange range(int k, int num_threads) const = 0;

  const int64_t n;
  const int d;
  const int64_t width;        // see Blocks
  const bool has_zero_point;  // see Features::like_pydensecrf
  const bool bridged;         // the lattice, see bridged_lattice.h
};

class ArrayFeatures final : public FeatureSource {
 public:
  explicit ArrayFeatures(const Features& features)
      : FeatureSource(features.n, features.d, features.width, features.like_pydensecrf,
                      features.bridged),
        f_(features) {}
  void gather(const Blocks::Span& span, float* out) const override;
  FeatureRange range(int k, int num_threads) const override;

 private:
  const Features& f_;
};

// Those of pairwise_features_cpu, to the bit, without the memory for all of them.
class PixelFeatures final : public FeatureSource {
 public:
  explicit PixelFeatures(const Image& image)
      : FeatureSource(image.pixels(), image.dimensions(), image.size[2], true, image.bridged),
        image_(image) {}
  void gather(const Blocks::Span& span, float* out) const override;
  FeatureRange range(int k, int num_threads) const override;

 private:
  const Image& image_;
};

}  // namespace deeplab_native
