// Names of vertices of many dimensions, compared: cpu/vertex_names.h.
#include "common/simd.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int kW = kLanes<int32_t>;
using I = Vec<int32_t, kW>;

template <int N>
DEEPLAB_INLINE int32_t sum_lanes(Vec<int32_t, N> v) {
  if constexpr (N == 2) {
    return v[0] + v[1];
  } else {
    return sum_lanes<N / 2>(low_half<int32_t, N>(v) + high_half<int32_t, N>(v));
  }
}

// Of two vertices, how many of their cells are not the same; see VertexNames.
int unlike_cells(const int32_t* a, int last_a, const int32_t* b, int last_b, int words) {
  I unlike{};
  for (int j = 0; j < words; j += kW) {
    const I x = load<int32_t, kW>(a + j), y = load<int32_t, kW>(b + j);
    const I cell_a = (x >> kRankBits) + ((x & kRankMask) > last_a);  // true is -1
    const I cell_b = (y >> kRankBits) + ((y & kRankMask) > last_b);
    unlike = unlike - (cell_a != cell_b);
  }
  return sum_lanes<kW>(unlike);
}

}  // namespace

void fill_vertex_names(SimdKernels* kernels) { kernels->unlike_cells = unlike_cells; }

}  // namespace deeplab_native::DEEPLAB_ISA
