// The interpolation along x is done once for each row of scores and thread, eight times less often
// than that along y, which the vector kernel does together with the softmax.
#include "ops/upsample_unary.h"

#include <algorithm>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "cpu/upsample_unary_kernel.h"

namespace deeplab_native {
namespace {

UpsampleKernels upsample_kernels() {
  UpsampleKernels kernels;
#if defined(DEEPLAB_X86_64)
  if (current_isa() == Isa::kAvx512) {
    avx512::fill(&kernels);
    return kernels;
  }
  if (current_isa() == Isa::kAvx2) {
    avx2::fill(&kernels);
    return kernels;
  }
#endif
  baseline::fill(&kernels);
  return kernels;
}

template <class T>
const UnaryKernels<T>& of_type(const UpsampleKernels& kernels) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return kernels.f32;
  } else {
    return kernels.f64;
  }
}

template <class Sum>
struct Position {
  int64_t low, high;
  Sum fraction;
};
template <class Sum>
std::vector<Position<Sum>> positions(const AlignedAxis& axis) {
  std::vector<Position<Sum>> result(axis.out);
  for (int64_t i = 0; i < axis.out; ++i) {
    const int64_t low = axis.low(i);
    result[i] = {low, axis.high(low), axis.fraction<Sum>(i, low)};
  }
  return result;
}

// Rows of scores, interpolated along x: the last two that were asked for are kept.
template <class T>
class WideRows {
 public:
  using Sum = typename Number<T>::Sum;
  WideRows(const T* scores, const UpsampleShape& s, const std::vector<Position<Sum>>& columns)
      : scores_(scores), s_(s), columns_(columns), line_(s.x.in) {
    stride_ = (s.x.out + kUnaryStride - 1) / kUnaryStride * kUnaryStride;
    for (auto& values : values_) values.resize(s.labels * stride_);
  }
  int64_t stride() const { return stride_; }

  // Row y of image b; valid until two other rows were asked for.
  const Sum* row(int64_t b, int64_t y) {
    const int64_t id = b * s_.y.in + y;
    for (int i = 0; i < 2; ++i) {
      if (ids_[i] == id) return last_ = i, values_[i].data();
    }
    last_ = 1 - last_;
    ids_[last_] = id;
    fill(scores_ + b * s_.stride[0] + y * s_.stride[2], values_[last_].data());
    return values_[last_].data();
  }

 private:
  void fill(const T* from, Sum* to) {
    for (int64_t label = 0; label < s_.labels; ++label, from += s_.stride[1], to += stride_) {
      for (int64_t j = 0; j < s_.x.in; ++j) line_[j] = from[j * s_.stride[3]];
      for (int64_t x = 0; x < s_.x.out; ++x) {
        const Position<Sum>& p = columns_[x];
        to[x] = (1 - p.fraction) * line_[p.low] + p.fraction * line_[p.high];
      }
    }
  }

  const T* scores_;
  const UpsampleShape& s_;
  const std::vector<Position<Sum>>& columns_;
  int64_t stride_;
  std::vector<Sum> line_, values_[2];
  int64_t ids_[2] = {-1, -1};
  int last_ = 0;
};

template <class T>
void forward(const T* scores, typename Number<T>::Sum* energies, const UpsampleShape& s,
             int num_threads) {
  using Sum = typename Number<T>::Sum;
  const UpsampleKernels kernels = upsample_kernels();
  const auto columns = positions<Sum>(s.x), lines = positions<Sum>(s.y);
  const int64_t plane = s.y.out * s.x.out;
  const int64_t row_bytes = std::max<int64_t>(1, s.labels * s.x.out * sizeof(Sum));
  const auto body = [&](int64_t begin, int64_t end) {
    WideRows<T> wide(scores, s, columns);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / s.y.out, y = row % s.y.out;
      const Sum* upper = wide.row(b, lines[y].low);
      const Sum* lower = wide.row(b, lines[y].high);
      of_type<Sum>(kernels).energies({upper, lower, wide.stride(), lines[y].fraction,
                                      energies + b * s.labels * plane + y * s.x.out, plane,
                                      s.labels, s.x.out});
    }
  };
  parallel_for(num_threads, s.batch * s.y.out, kGrainBytes / row_bytes, body);
}

// rows[b, l, Y, j]: the gradient of the interpolated scores, gathered along x.
template <class T>
void gather_columns(const T* energies, const T* grad, const T* grad_sum, T* rows,
                    const UpsampleShape& s, int num_threads) {
  const UpsampleKernels kernels = upsample_kernels();
  const auto columns = positions<T>(s.x);
  const int64_t row_bytes = std::max<int64_t>(1, s.x.out * sizeof(T));
  const auto body = [&](int64_t begin, int64_t end) {
    std::vector<T> line(s.x.out);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / s.y.out / s.labels, y = row % s.y.out, at = row * s.x.out;
      of_type<T>(kernels).gradient(energies + at, grad + at, grad_sum + (b * s.y.out + y) * s.x.out,
                                   line.data(), s.x.out);
      T* sums = rows + row * s.x.in;
      std::fill_n(sums, s.x.in, T(0));
      for (int64_t x = 0; x < s.x.out; ++x) {
        sums[columns[x].low] += (1 - columns[x].fraction) * line[x];
        sums[columns[x].high] += columns[x].fraction * line[x];
      }
    }
  };
  parallel_for(num_threads, s.batch * s.labels * s.y.out, kGrainBytes / row_bytes, body);
}

// grad_scores[b, l, i, j]: those rows gathered along y.
template <class T>
void gather_rows(const T* rows, T* grad_scores, const UpsampleShape& s, int num_threads) {
  const int64_t width = s.x.in;
  const int64_t row_bytes = std::max<int64_t>(1, width * sizeof(T));
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t plane = row / s.y.in, i = row % s.y.in;
      T* sums = grad_scores + row * width;
      std::fill_n(sums, width, T(0));
      for (int64_t y = s.y.begin(i); y < s.y.end(i); ++y) {
        const T weight = s.y.weight<T>(y, i);
        const T* from = rows + (plane * s.y.out + y) * width;
        for (int64_t j = 0; j < width; ++j) sums[j] += weight * from[j];
      }
    }
  };
  parallel_for(num_threads, s.batch * s.labels * s.y.in, kGrainBytes / row_bytes, body);
}

template <class T>
void backward(const void* energies, const void* grad, const void* grad_sum, void* rows,
              void* grad_scores, const UpsampleShape& s, int num_threads) {
  gather_columns(static_cast<const T*>(energies), static_cast<const T*>(grad),
                 static_cast<const T*>(grad_sum), static_cast<T*>(rows), s, num_threads);
  gather_rows(static_cast<const T*>(rows), static_cast<T*>(grad_scores), s, num_threads);
}

}  // namespace

void upsample_unary_cpu(const void* scores, void* energies, const UpsampleShape& shape,
                        FloatType type, int num_threads) {
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    forward(static_cast<const T*>(scores), static_cast<typename Number<T>::Sum*>(energies), shape,
            num_threads);
  });
}

void upsample_unary_backward_cpu(const void* energies, const void* grad, const void* grad_sum,
                                 void* rows, void* grad_scores, const UpsampleShape& shape,
                                 FloatType type, int num_threads) {
  const auto run = type == FloatType::kFloat64 ? backward<double> : backward<float>;
  run(energies, grad, grad_sum, rows, grad_scores, shape, num_threads);
}

}  // namespace deeplab_native
