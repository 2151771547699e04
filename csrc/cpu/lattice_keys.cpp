#include "cpu/lattice_keys.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>

#include "ops/bridged_lattice.h"

namespace deeplab_native {
namespace {

// Rounding in the embedding is exact below this (common/simd.h).
constexpr double kMostElevated = 1 << 22;

std::string three_digits(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", x);
  return text;
}

}  // namespace

KeyLayout key_layout(const FeatureSource& features, int num_threads) {
  const int d = features.d;
  KeyLayout layout{};
  layout.d = d;
  double least[kMaxFeatureDim], most[kMaxFeatureDim];
  for (int k = 0; k < d; ++k) {
    layout.scale[k] = elevation_scale(k, d, features.bridged);
    const FeatureRange r = features.range(k, num_threads);
    if (!r.finite || r.most == std::numeric_limits<float>::infinity()) {
      throw std::invalid_argument("features: dimension " + std::to_string(k) +
                                  " has values that are NaN or infinite");
    }
    least[k] = features.n ? double{r.least} * layout.scale[k] : 0;
    most[k] = features.n ? double{r.most} * layout.scale[k] : 0;
    if (features.has_zero_point) {
      least[k] = std::min(least[k], 0.0);
      most[k] = std::max(most[k], 0.0);
    }
  }

  // Coordinate j of E p is sum_{k >= j} s_k p_k - j s_{j-1} p_{j-1}. Vertices of a simplex lie
  // within d + 1 of its remainder-0 point, that within d + 1 of the rounded one; blur neighbours d
  // further on, and theirs, of bridges, another d.
  const double margin = (features.bridged ? 5.0 : 4.0) * (d + 1);
  int bits_left = 0, word = -1;
  for (int j = 0; j <= d; ++j) {
    double low = 0, high = 0;
    for (int k = j; k < d; ++k) {
      low += least[k];
      high += most[k];
    }
    if (j > 0) {
      low -= j * most[j - 1];
      high -= j * least[j - 1];
    }
    if (std::max(-low, high) > kMostElevated) {
      throw std::invalid_argument(
          "features: their range over the standard deviation is too large for the lattice "
          "(coordinate " +
          std::to_string(j) + " reaches " + three_digits(std::max(-low, high)) + ", at most " +
          three_digits(kMostElevated) + "); use larger sigmas or smaller features");
    }
    if (j == d) break;
    layout.least[j] = static_cast<int32_t>(std::floor(low - margin));
    const int64_t span = static_cast<int64_t>(std::ceil(high + margin)) - layout.least[j];
    const int bits = std::bit_width(static_cast<uint64_t>(span));
    if (bits > bits_left) {
      ++word;
      bits_left = 64;
    }
    bits_left -= bits;
    layout.word[j] = word;
    layout.shift[j] = bits_left;
  }
  layout.num_words = word + 1;
  return layout;
}

void check_features_cpu(const Features& features, int num_threads) {
  key_layout(ArrayFeatures(features), num_threads);
}

void check_image_features_cpu(const Image& image, int num_threads) {
  key_layout(PixelFeatures(image), num_threads);
}

}  // namespace deeplab_native
