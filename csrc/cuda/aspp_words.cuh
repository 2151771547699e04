// What a thread of the head's kernels reads and writes at once of a channels_last map: some of a
// pixel's channels, 16 bytes of them unless it says otherwise.
#pragma once
#include "cuda/compat.cuh"

namespace deeplab_native {

template <class T, int kCount = 16 / sizeof(T)>
struct alignas(kCount * sizeof(T)) Word {
  static constexpr int kItems = kCount;
  T items[kItems];
};

// The pixel's channels from `first`; zero beyond the last one. kWhole: `pixel` is aligned as a word
// and has a whole number of words.
template <bool kWhole, class W, class T>
__device__ W load_word(const T* pixel, int64_t first, int64_t channels) {
  if constexpr (kWhole) {
    return *reinterpret_cast<const W*>(pixel + first);
  } else {
    W word;
    for (int i = 0; i < W::kItems; ++i) {
      word.items[i] = first + i < channels ? pixel[first + i] : T{};
    }
    return word;
  }
}

template <bool kWhole, class W, class T>
__device__ void store_word(T* pixel, int64_t first, int64_t channels, const W& word) {
  if constexpr (kWhole) {
    *reinterpret_cast<W*>(pixel + first) = word;
  } else {
    for (int i = 0; i < W::kItems; ++i) {
      if (first + i < channels) pixel[first + i] = word.items[i];
    }
  }
}

}  // namespace deeplab_native
