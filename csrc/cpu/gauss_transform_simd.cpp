// A tile of points meets all others: the lanes of two vectors are its points, and each other point
// is a scalar to them. Kernels of 64 points at a time go to the first-level cache, from where they
// are multiplied with the points' values, whose sums stay in registers.
//
// Points of boxes, then points, that are too far from the tile's box are left out first: with
// sorted points of a photograph at 67/3 that leaves 4 to 13 % of all pairs.
#include "common/simd.h"
#include "cpu/gauss_function.h"
#include "cpu/gauss_transform_kernel.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

template <class T>
constexpr int64_t kWidth = 2 * kLanes<T>;
// Rows of sums: 11 x 2 fit 32 registers, 6 x 2 fit 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 11, kGroup = 4;
#else
constexpr int kRows = 6, kGroup = 2;
#endif

// What a tile meets: appends those of 16 points, or boxes, [0, count), that are near to its box.
template <class T>
DEEPLAB_INLINE int append_near(const T* low, const T* high, const T* box, int d, T far,
                               int32_t first, int count, int32_t* to) {
  constexpr int kN = kLanes<T> < kGaussBlock ? kLanes<T> : kGaussBlock;
  using V = Vec<T, kN>;
  T squares[kGaussBlock];
  for (int v = 0; v < kGaussBlock; v += kN) {
    V square = {};
    for (int k = 0; k < d; ++k) {
      const V below = load<T, kN>(low + k * kGaussBlock + v) - box[d + k];
      const V above = box[k] - load<T, kN>(high + k * kGaussBlock + v);
      const V gap = larger<T, kN>(larger<T, kN>(below, above), V{});
      square = fma(gap, gap, square);
    }
    store<T, kN>(squares + v, square);
  }
  int found = 0;
  for (int i = 0; i < count; ++i) {
    to[found] = first + i;
    found += squares[i] <= far;
  }
  return found;
}

// use(near, count) for batches of points that are near to the box [2][d] of a tile, in their order.
template <class T, class Use>
DEEPLAB_INLINE void for_near(const GaussPass<T>& pass, const T* box, const Use& use) {
  const int64_t blocks = (pass.n + kGaussBlock - 1) / kGaussBlock;
  const int64_t size = int64_t{pass.d} * kGaussBlock;
  int32_t near[kGaussBatch + kGaussBlock], boxes[kGaussBlock];
  int count = 0;
  for (int64_t group = 0; group * kGaussBlock < blocks; ++group) {
    const int64_t first = group * kGaussBlock, left = blocks - first;
    const int found = append_near(pass.low + group * size, pass.high + group * size, box, pass.d,
                                  pass.far, static_cast<int32_t>(first),
                                  static_cast<int>(left < kGaussBlock ? left : kGaussBlock), boxes);
    for (int b = 0; b < found; ++b) {
      const int64_t point = int64_t{boxes[b]} * kGaussBlock, rest = pass.n - point;
      const T* columns = pass.columns + boxes[b] * size;
      count += append_near(columns, columns, box, pass.d, pass.far, static_cast<int32_t>(point),
                           static_cast<int>(rest < kGaussBlock ? rest : kGaussBlock), near + count);
      if (count < kGaussBatch) continue;
      use(near, kGaussBatch);
      count -= kGaussBatch;
      for (int i = 0; i < count; ++i) near[i] = near[kGaussBatch + i];
    }
  }
  if (count > 0) use(near, count);
}

// k[j][i] of the near points j and the tile's. kD: d, or 0 where it is another.
template <class T, int kD>
void weights(const GaussPass<T>& pass, const int32_t* near, int count, const T* tile, T* k) {
  constexpr int kN = kLanes<T>;
  using V = Vec<T, kN>;
  const int d = kD > 0 ? kD : pass.d;
  for (int j = 0; j < count; ++j, k += kWidth<T>) {
    const T* f = pass.features + int64_t{near[j]} * d;
    V squares[2] = {};
    for (int m = 0; m < d; ++m) {
      for (int v = 0; v < 2; ++v) {
        const V difference = broadcast<T, kN>(f[m]) - load<T, kN>(tile + m * kWidth<T> + v * kN);
        squares[v] = fma(difference, difference, squares[v]);
      }
    }
    for (int v = 0; v < 2; ++v) store<T, kN>(k + v * kN, gauss<T, kN>(squares[v]));
  }
}
template <class T>
void weights_of(const GaussPass<T>& pass, const int32_t* near, int count, const T* tile, T* k) {
  if (pass.d == 2) return weights<T, 2>(pass, near, count, tile, k);
  if (pass.d == 3) return weights<T, 3>(pass, near, count, tile, k);
  if (pass.d == 5) return weights<T, 5>(pass, near, count, tile, k);
  weights<T, 0>(pass, near, count, tile, k);
}

// sums[r][i] += sum over j of k[j][i] (rows[near[j]][r] - (minus ? minus[r][i] : 0)), r < kR
template <class T, int kR>
void add_rows(const T* rows, int64_t stride, const T* minus, const int32_t* near, int count,
              const T* k, T* sums) {
  constexpr int kN = kLanes<T>;
  using V = Vec<T, kN>;
  V own[kR][2] = {};
  for (int j = 0; j < count; ++j, k += kWidth<T>) {
    const T* row = rows + near[j] * stride;
    for (int v = 0; v < 2; ++v) {
      const V weight = load<T, kN>(k + v * kN);
      for (int r = 0; r < kR; ++r) {
        V value = broadcast<T, kN>(row[r]);
        if (minus != nullptr) value = value - load<T, kN>(minus + r * kWidth<T> + v * kN);
        own[r][v] = fma(weight, value, own[r][v]);
      }
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int v = 0; v < 2; ++v) {
      T* to = sums + r * kWidth<T> + v * kN;
      store<T, kN>(to, load<T, kN>(to) + own[r][v]);
    }
  }
}
template <class T, int kR>
DEEPLAB_INLINE void add_some(int count_rows, const T* rows, int64_t stride, const T* minus,
                             const int32_t* near, int count, const T* k, T* sums) {
  if (count_rows == kR) return add_rows<T, kR>(rows, stride, minus, near, count, k, sums);
  if constexpr (kR > 1) add_some<T, kR - 1>(count_rows, rows, stride, minus, near, count, k, sums);
}
// All `stride` rows, in equal parts.
template <class T>
void add_all(const T* rows, int64_t stride, const T* minus, const int32_t* near, int count,
             const T* k, T* sums) {
  const int64_t parts = (stride + kRows - 1) / kRows;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = stride * part / parts, last = stride * (part + 1) / parts;
    add_some<T, kRows>(static_cast<int>(last - first), rows + first, stride,
                       minus == nullptr ? nullptr : minus + first * kWidth<T>, near, count, k,
                       sums + first * kWidth<T>);
  }
}

// k[j][i] *= g_i . v_j + v_i . g_j, of kG points j; own: [channels][2][width] of the tile's points
template <class T, int kG>
void multiply_products(const GaussPass<T>& pass, const int32_t* near, const T* own, T* k) {
  constexpr int kN = kLanes<T>;
  using V = Vec<T, kN>;
  V products[kG][2] = {};
  for (int64_t c = 0; c < pass.channels; ++c, own += 2 * kWidth<T>) {
    for (int v = 0; v < 2; ++v) {
      const V value = load<T, kN>(own + v * kN), grad = load<T, kN>(own + kWidth<T> + v * kN);
      for (int j = 0; j < kG; ++j) {
        const int64_t at = near[j] * pass.channels + c;
        products[j][v] = fma(grad, broadcast<T, kN>(pass.values[at]), products[j][v]);
        products[j][v] = fma(value, broadcast<T, kN>(pass.grad[at]), products[j][v]);
      }
    }
  }
  for (int j = 0; j < kG; ++j, k += kWidth<T>) {
    for (int v = 0; v < 2; ++v) {
      store<T, kN>(k + v * kN, load<T, kN>(k + v * kN) * products[j][v]);
    }
  }
}

// A thread's memory: the tile's features and box, kernels, sums, and values for the gradient.
template <class T>
struct Scratch {
  T *tile, *box, *k, *sums, *total, *own;
  Scratch(T* memory, int64_t rows, int d) {
    tile = memory;
    k = tile + d * kWidth<T>;
    sums = k + kGaussBatch * kWidth<T>;
    total = sums + rows * kWidth<T>;
    own = total + rows * kWidth<T>;
    box = own;  // of 2 d; own comes behind it
    own += 2 * d;
  }
};
template <class T>
int64_t scratch_size(int64_t channels, int d) {
  const int64_t rows = channels > d ? channels : d;
  return kWidth<T> * (d + kGaussBatch + 2 * rows + 2 * channels) + 2 * d;
}

// Features [d][width] of a tile's points and their box; the last tile is filled up with its last
// point. Returns how many points it has.
template <class T>
int take_tile(const GaussPass<T>& pass, int64_t tile, const Scratch<T>& s) {
  const int64_t first = tile * kWidth<T>, left = pass.n - first;
  const int count = static_cast<int>(left < kWidth<T> ? left : kWidth<T>);
  for (int k = 0; k < pass.d; ++k) {
    T low = pass.features[first * pass.d + k], high = low;
    for (int i = 0; i < kWidth<T>; ++i) {
      const T f = pass.features[(first + (i < count ? i : count - 1)) * pass.d + k];
      s.tile[k * kWidth<T> + i] = f;
      low = f < low ? f : low;
      high = f > high ? f : high;
    }
    s.box[k] = low;
    s.box[pass.d + k] = high;
  }
  return count;
}

// rows [rows][width] of sums over all near points, by use(near, count, sums), to out [n][rows].
template <class T, class Use>
DEEPLAB_INLINE void sum_up(const GaussPass<T>& pass, const Scratch<T>& s, int64_t tile, int count,
                           int64_t rows, const Use& use) {
  const int64_t size = rows * kWidth<T>;
  for (int64_t i = 0; i < size; ++i) s.sums[i] = s.total[i] = 0;
  const auto add_to_total = [&] {
    for (int64_t i = 0; i < size; ++i) {
      s.total[i] += s.sums[i];
      s.sums[i] = 0;
    }
  };
  int batches = 0;
  for_near(pass, s.box, [&](const int32_t* near, int found) {
    weights_of(pass, near, found, s.tile, s.k);
    use(near, found);
    if (++batches % kGaussSpan == 0) add_to_total();
  });
  add_to_total();
  T* out = pass.out + tile * kWidth<T> * rows;
  for (int i = 0; i < count; ++i) {
    for (int64_t r = 0; r < rows; ++r) out[i * rows + r] = s.total[r * kWidth<T> + i];
  }
}

template <class T>
void transform(const GaussPass<T>& pass, int64_t tile, T* memory) {
  [[maybe_unused]] const FlushDenormals flush;
  const Scratch<T> s(memory, pass.channels, pass.d);
  const int count = take_tile(pass, tile, s);
  sum_up(pass, s, tile, count, pass.channels, [&](const int32_t* near, int found) {
    add_all<T>(pass.values, pass.channels, nullptr, near, found, s.k, s.sums);
  });
}

template <class T>
void features(const GaussPass<T>& pass, int64_t tile, T* memory) {
  [[maybe_unused]] const FlushDenormals flush;
  const int64_t rows = pass.channels > pass.d ? pass.channels : pass.d;
  const Scratch<T> s(memory, rows, pass.d);
  const int count = take_tile(pass, tile, s);
  for (int64_t c = 0; c < pass.channels; ++c) {
    for (int i = 0; i < kWidth<T>; ++i) {
      const int64_t at = (tile * kWidth<T> + (i < count ? i : count - 1)) * pass.channels + c;
      s.own[2 * c * kWidth<T> + i] = pass.values[at];
      s.own[(2 * c + 1) * kWidth<T> + i] = pass.grad[at];
    }
  }
  sum_up(pass, s, tile, count, pass.d, [&](const int32_t* near, int found) {
    int j = 0;
    for (; j + kGroup <= found; j += kGroup) {
      multiply_products<T, kGroup>(pass, near + j, s.own, s.k + j * kWidth<T>);
    }
    for (; j < found; ++j) multiply_products<T, 1>(pass, near + j, s.own, s.k + j * kWidth<T>);
    add_all<T>(pass.features, pass.d, s.tile, near, found, s.k, s.sums);
  });
}

}  // namespace

void fill(GaussKernelTable* table) {
  table->f32 = {kWidth<float>, scratch_size<float>, transform<float>, features<float>};
  table->f64 = {kWidth<double>, scratch_size<double>, transform<double>, features<double>};
}

}  // namespace deeplab_native::DEEPLAB_ISA
