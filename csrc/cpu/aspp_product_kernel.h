// The vector kernel of aspp_product, one per instruction set. Plain pointers; memory and threads
// are its caller's (aspp_product.cpp).
#pragma once
#include <cstdint>

namespace deeplab_native {

// Channels of a slice: a tile of 48 pixels then takes 24 KiB of a first-level cache of 32 KiB.
constexpr int64_t kAsppSlice = 128;
// Filters of a block, at most: 21 classes in three blocks.
constexpr int kAsppBlock = 7;

struct AsppProductKernel {
  int width;  // pixels of a tile
  // y[r][p] = sum over c of a[c][r] b[c][p], or += it; p < width, r < rows <= kAsppBlock
  void (*multiply)(const float* a, int rows, const float* b, int64_t channels, float* y, bool add);
};

namespace baseline {
void fill(AsppProductKernel*);
}
namespace avx2 {
void fill(AsppProductKernel*);
}
namespace avx512 {
void fill(AsppProductKernel*);
}

}  // namespace deeplab_native
