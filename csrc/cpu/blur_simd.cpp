// The blur [1/2, 1, 1/2] along the lines of one axis, in place.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int32_t kVertex = 0x7fffffff;  // without the mark of a line's end
constexpr int kAhead = 12;               // rows to prefetch: about the latency of memory

// Of a cold row, before and after the blur.
constexpr uint8_t kWasHere = 1, kIsHere = 2;

// Walks the lines with the previous, the current and the next row in registers, so that each row is
// read and written once and no second buffer is needed. kMarks: rows are hot ones, and marks[i]
// says whether the cold row at order[begin + i] is there.
template <class T, int N, bool kMarks>
void blur_lines(T* rows, int stride, const Lines& lines, uint8_t* marks, const T* cold_rows,
                int cold) {
  const int32_t* order = lines.order;
  const auto row_of = [&](int64_t i) { return rows + int64_t{order[i] & kVertex} * stride; };
  Row<T, N> previous = Row<T, N>::zero();
  Row<T, N> current = Row<T, N>::load(row_of(lines.begin));
  for (int64_t i = lines.begin; i < lines.end; ++i) {
    const T* ahead = row_of(i + kAhead < lines.end ? i + kAhead : i);
    __builtin_prefetch(ahead);
    if constexpr (N * sizeof(T) > 64) __builtin_prefetch(ahead + N - 1);
    const bool ends = order[i] < 0;  // a line: what follows is another one
    const Row<T, N> following = Row<T, N>::load(row_of(i + 1 < lines.end ? i + 1 : i));
    Row<T, N> result = current;
    result.add_scaled(T(0.5), ends ? previous : previous + following);
    result.store(row_of(i));
    if constexpr (kMarks) {
      const uint8_t mark = (current.last() > T(kNegligibleRow) ? kWasHere : 0) |
                           (result.last() > T(kNegligibleRow) ? kIsHere : 0);
      marks[i - lines.begin] = mark;
      if (mark) __builtin_prefetch(cold_rows + int64_t{order[i] & kVertex} * cold);
    }
    previous = ends ? Row<T, N>::zero() : current;
    current = following;
  }
}

// The same for cold rows where the plane is sparse: rows that are not there read as zeros.
template <class T, int N>
void blur_marked_lines(T* rows, int stride, const Lines& lines, const uint8_t* marks) {
  const int32_t* order = lines.order + lines.begin;
  const int64_t count = lines.end - lines.begin;
  const auto row_of = [&](int64_t i) { return rows + int64_t{order[i] & kVertex} * stride; };
  const auto read = [&](int64_t i) {
    return marks[i] & kWasHere ? Row<T, N>::load(row_of(i)) : Row<T, N>::zero();
  };
  Row<T, N> previous = Row<T, N>::zero();  // as it was, of `previous_at`
  int64_t previous_at = -2;
  for (int64_t i = 0; i < count; ++i) {
    if (!marks[i]) continue;
    Row<T, N> current = read(i), result = current, sum = Row<T, N>::zero();
    if (previous_at == i - 1 && order[previous_at] >= 0) sum = previous;
    if (order[i] >= 0) sum = sum + read(i + 1);
    result.add_scaled(T(0.5), sum);
    result.store(row_of(i));
    previous = current;
    previous_at = i;
  }
}

template <class T>
void blur_rows(T* rows, int stride, Lines lines) {
  if (lines.begin == lines.end) return;
  with_stride(stride, [&]<int kStride>() {
    for_chunks<kStride>(stride, [&]<int N>(int c) {
      blur_lines<T, N, false>(rows + c, stride, lines, nullptr, nullptr, 0);
    });
  });
}

template <class T>
void blur_planes(Planes<T> rows, int cold, uint8_t* marks, Lines lines) {
  FlushDenormals flush;
  if (lines.begin == lines.end) return;
  if (!marks) {
    blur_lines<T, kPlane, false>(rows.hot, kPlane, lines, nullptr, nullptr, 0);
    for_chunks<0>(cold, [&]<int N>(int c) {
      blur_lines<T, N, false>(rows.cold + c, cold, lines, nullptr, nullptr, 0);
    });
    return;
  }
  constexpr int64_t kPiece = 2048;  // rows that stay in cache, and whole lines
  while (lines.begin < lines.end) {
    Lines piece = lines;
    piece.end = lines.begin + kPiece < lines.end ? lines.begin + kPiece : lines.end;
    while (piece.order[piece.end - 1] >= 0) ++piece.end;
    lines.begin = piece.end;
    blur_lines<T, kPlane, true>(rows.hot, kPlane, piece, marks, rows.cold, cold);
    for_chunks<0>(
        cold, [&]<int N>(int c) { blur_marked_lines<T, N>(rows.cold + c, cold, piece, marks); });
  }
}

template <class T>
void fill_rows(RowKernels<T>* kernels) {
  kernels->blur_rows = blur_rows<T>;
  kernels->blur_planes = blur_planes<T>;
}

}  // namespace

void fill_blur(SimdKernels* kernels) {
  fill_rows(&kernels->rows_f32);
  fill_rows(&kernels->rows_f64);
}

}  // namespace deeplab_native::DEEPLAB_ISA
