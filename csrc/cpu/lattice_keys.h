// How lattice points are packed into keys: d coordinates (the last one follows from the others),
// each in as many bits as the features' range needs.
#pragma once
#include <array>
#include <cstdint>

#include "cpu/feature_source.h"
#include "cpu/hash_table.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

struct KeyLayout {
  int d;
  int num_words;  // 64-bit words that all fields together need
  std::array<int32_t, kMaxFeatureDim> least;
  std::array<int, kMaxFeatureDim> word, shift;
  std::array<float, kMaxFeatureDim> scale;  // diagonal of E, Adams et al. 2010, section 3.1
};

// Looks at the range of the features. Throws std::invalid_argument where one is not finite, or so
// large that float32 cannot tell neighbouring lattice points apart.
KeyLayout key_layout(const FeatureSource& features, int num_threads);

// Unit of a coordinate in the packed key; zero for the last, which is not stored.
template <int K>
Key<K> unit(const KeyLayout& layout, int coordinate) {
  Key<K> u{};
  if (coordinate < layout.d) u.words[layout.word[coordinate]] = 1ull << layout.shift[coordinate];
  return u;
}

}  // namespace deeplab_native
