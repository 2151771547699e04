// The blur [1/2, 1, 1/2] along the lines of one axis, in place.
#include "cpu/rows.h"
#include "cpu/simd_kernels.h"

namespace deeplab_native::DEEPLAB_ISA {
namespace {

constexpr int32_t kVertex = 0x7fffffff;  // without the mark of a line's end
constexpr int kAhead = 24;               // rows to prefetch: about the latency of memory
constexpr int kNotesAhead = 8;

// What the walk over the hot rows notes of cold rows that are there after the blur: where they are
// in the lines, and whether they were there before.
constexpr uint32_t kWasHere = 1;
constexpr int kPlace = 1;  // bits below it

// Walks the lines with the previous, the current and the next row in registers, so that each row is
// read and written once and no second buffer is needed. Without a branch on what nobody could
// foretell: where a line ends and which rows are there. Where there are notes, rows are hot ones,
// finite and not negative; returns the end of the notes.
template <class T, int N, bool kNotes>
uint32_t* blur_lines(T* rows, int stride, const Lines& lines, uint32_t* notes) {
  static constexpr T kHalfOrNothing[] = {T(0.5), T(0)};
  const int32_t* order = lines.order;
  const auto row_of = [&](int64_t i) { return rows + int64_t{order[i] & kVertex} * stride; };
  Row<T, N> previous = Row<T, N>::zero();
  Row<T, N> current = Row<T, N>::load(row_of(lines.begin));
  T half_of_previous = 0;
  const auto visit = [&](int64_t i, int64_t next) __attribute__((always_inline)) {
    T* const row = row_of(i);
    const Row<T, N> following = Row<T, N>::load(row_of(next));
    Row<T, N> result = current;
    if constexpr (kNotes) {  // finite: 0 times what belongs to another line is 0
      const T half = kHalfOrNothing[static_cast<uint32_t>(order[i]) >> 31];
      result.add_scaled(half_of_previous, previous);
      result.add_scaled(half, following);
      result.store(row);
      // A row that was there still is.
      const uint32_t was_here = current.last() > T(kNegligibleRow);
      const uint32_t is_here = result.last() > T(kNegligibleRow);
      *notes = static_cast<uint32_t>(i - lines.begin) << kPlace | was_here * kWasHere;
      notes += is_here;
      half_of_previous = half;
      previous = current;
    } else {
      const bool goes_on = order[i] >= 0;  // else what follows is another line
      result.add_scaled(T(0.5), previous + following.where(goes_on));
      result.store(row);
      previous = current.where(goes_on);
    }
    current = following;
  };
  int64_t i = lines.begin;
  for (; i + kAhead < lines.end; ++i) {
    const T* ahead = row_of(i + kAhead);
    __builtin_prefetch(ahead);
    if constexpr (N * sizeof(T) > 64) __builtin_prefetch(ahead + N - 1);
    visit(i, i + 1);
  }
  for (; i + 1 < lines.end; ++i) visit(i, i + 1);
  visit(i, i);
  return notes;
}

// The same for cold rows where the plane is sparse: rows that are not there read as zeros.
template <class T, int N>
void blur_noted_lines(T* rows, int stride, const Lines& lines, const uint32_t* notes,
                      const uint32_t* end) {
  const int32_t* order = lines.order + lines.begin;
  constexpr uint32_t kNowhere = ~uint32_t{0};
  Row<T, N> previous = Row<T, N>::zero();  // as it was
  uint32_t previous_place = kNowhere;
  for (; notes < end; ++notes) {
    const uint32_t ahead = notes + kNotesAhead < end ? notes[kNotesAhead] >> kPlace : 0;
    __builtin_prefetch(rows + int64_t{order[ahead] & kVertex} * stride);
    const uint32_t place = *notes >> kPlace, next = notes + 1 < end ? notes[1] : kNowhere;
    const bool was_here = *notes & kWasHere, goes_on = order[place] >= 0;
    const bool next_was_here = next >> kPlace == place + 1 && (next & kWasHere) && goes_on;
    T* const row = rows + int64_t{order[place] & kVertex} * stride;
    const int32_t neighbour = order[place + next_was_here] & kVertex;
    const Row<T, N> current = Row<T, N>::load(row).where(was_here);
    const Row<T, N> following = Row<T, N>::load(rows + int64_t{neighbour} * stride);
    Row<T, N> result = current;
    result.add_scaled(T(0.5),
                      previous.where(previous_place + 1 == place) + following.where(next_was_here));
    result.store(row);
    previous = current.where(goes_on);
    previous_place = place;
  }
}

template <class T>
void blur_rows(T* rows, int stride, Lines lines) {
  if (lines.begin == lines.end) return;
  with_stride(stride, [&]<int kStride>() {
    for_chunks<kStride>(
        stride, [&]<int N>(int c) { blur_lines<T, N, false>(rows + c, stride, lines, nullptr); });
  });
}

template <class T>
void blur_planes(Planes<T> rows, int cold, uint32_t* notes, Lines lines) {
  FlushDenormals flush;
  if (lines.begin == lines.end) return;
  if (!notes) {
    blur_lines<T, kPlane, false>(rows.hot, kPlane, lines, nullptr);
    for_chunks<0>(
        cold, [&]<int N>(int c) { blur_lines<T, N, false>(rows.cold + c, cold, lines, nullptr); });
    return;
  }
  constexpr int64_t kPiece = 2048;  // rows that stay in cache, and whole lines
  while (lines.begin < lines.end) {
    Lines piece = lines;
    piece.end = lines.begin + kPiece < lines.end ? lines.begin + kPiece : lines.end;
    while (piece.order[piece.end - 1] >= 0) ++piece.end;
    lines.begin = piece.end;
    const uint32_t* const end = blur_lines<T, kPlane, true>(rows.hot, kPlane, piece, notes);
    for_chunks<0>(cold, [&]<int N>(int c) {
      blur_noted_lines<T, N>(rows.cold + c, cold, piece, notes, end);
    });
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
