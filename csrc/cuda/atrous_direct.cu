#include "cuda/add_parts.cuh"
#include "cuda/atrous_direct.cuh"
#include "cuda/atrous_windows.h"

namespace deeplab_native {
namespace {

template <class T>
MapView<T> view(const void* data, const std::array<int64_t, 4>& stride, int64_t channels) {
  const uint64_t misaligned = reinterpret_cast<uint64_t>(data) % 16 |
                              (stride[0] | stride[2] | stride[3] | channels) % kVectorItems<T>;
  const bool adjacent = stride[1] == 1;
  return {static_cast<const T*>(data),
          stride[0],
          stride[2],
          stride[3],
          stride[1],
          static_cast<int>(channels),
          adjacent && misaligned == 0,
          adjacent || stride[1] < stride[3]};
}

template <class T>
MapView<T> filters(const void* data, int64_t taps, int64_t channels) {
  return view<T>(data, {taps * channels, 1, channels, channels}, channels);
}

// A dense map as the rows (b, y, x) and columns (channels) of a product.
template <class T>
Result<T> map_result(void* data, void* partial, const void* bias,
                     const std::array<int64_t, 4>& stride, int64_t batch, int64_t channels,
                     int64_t pixels) {
  const bool one_run = stride[0] == pixels * stride[3];
  return {static_cast<T*>(data),
          static_cast<typename Number<T>::Sum*>(partial),
          static_cast<const T*>(bias),
          batch * channels * pixels,
          batch * pixels,
          channels,
          one_run ? batch * pixels : pixels,
          stride[0],
          stride[3],
          stride[1]};
}

unsigned tiles(int64_t items, int tile) { return static_cast<unsigned>((items + tile - 1) / tile); }

// launch_tile(kTensor, Tile) starts the product; afterwards its parts are added.
template <class T, class LaunchTile>
cudaError_t run_plan(Result<T>& result, DirectPlan plan, cudaStream_t stream,
                     const LaunchTile& launch_tile) {
  if (result.size == 0) return cudaSuccess;
  if (plan.parts < 2) result.partial = nullptr;
  cudaError_t error = cudaErrorInvalidValue;
  if (plan.tile == 0 && sizeof(T) < 8) {  // a large tile of doubles does not fit the registers
    if constexpr (sizeof(T) < 8) error = launch_tile(LargeTile{});
  } else if (plan.tile == 1) {
    error = launch_tile(SmallTile{});
  } else if (plan.tile == 2) {
    error = launch_tile(NarrowTile{});
  }
  if (error != cudaSuccess || plan.parts < 2) return error;
  return add_parts(result.partial, result.data, result.size, plan.parts, stream);
}

template <class T, bool kTensor>
cudaError_t run_windows(WindowProduct<T> p, DirectPlan plan, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  return run_plan(p.result, plan, on, [&](auto tile) {
    using Tile = decltype(tile);
    const dim3 grid(tiles(p.result.rows, Tile::kRows), tiles(p.result.cols, Tile::kCols),
                    plan.parts);
    return launch(atrous_direct_window_kernel<T, kTensor, Tile>, grid, dim3(Tile::kThreads), 0, on,
                  p, plan.parts);
  });
}

template <class T, bool kTensor>
cudaError_t run_weights(WeightProduct<T> p, int64_t taps, DirectPlan plan, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  return run_plan(p.result, plan, on, [&](auto tile) {
    using Tile = decltype(tile);
    p.row_tiles = static_cast<int>(tiles(p.result.rows, Tile::kRows));
    const dim3 grid(static_cast<unsigned>(taps * p.row_tiles), tiles(p.result.cols, Tile::kCols),
                    plan.parts);
    return launch(atrous_direct_weight_kernel<T, kTensor, Tile>, grid, dim3(Tile::kThreads), 0, on,
                  p, plan.parts);
  });
}

// Calls run(T{}, std::bool_constant<tensor cores>).
template <class Run>
cudaError_t with_type(DirectType type, const Run& run) {
  switch (type) {
    case DirectType::kFloat32:
      return run(float{}, std::false_type{});
    case DirectType::kTfloat32:
      return run(float{}, std::true_type{});
    case DirectType::kFloat64:
      return run(double{}, std::false_type{});
    case DirectType::kBfloat16:
      return run(Bfloat16{}, std::true_type{});
    case DirectType::kFloat16:
      return run(Float16{}, std::true_type{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int atrous_direct_cuda(const void* map, const void* weight, const void* bias, void* out,
                       void* partial, const AtrousDirectShape& s, DirectType type, DirectPlan plan,
                       void* stream) {
  if (!indexable(s)) return cudaErrorInvalidValue;
  return with_type(type, [&](auto element, auto tensor) {
    using T = decltype(element);
    const WindowProduct<T> product{view<T>(map, s.map_stride, s.channels), forward_window(s),
                                   filters<T>(weight, s.kernel_h * s.kernel_w, s.channels),
                                   map_result<T>(out, partial, bias, s.out_stride, s.batch,
                                                 s.filters, s.out_height * s.out_width)};
    return run_windows<T, decltype(tensor)::value>(product, plan, stream);
  });
}

int atrous_direct_map_gradient_cuda(const void* grad, const void* weight, void* grad_map,
                                    void* partial, const AtrousDirectShape& s, DirectType type,
                                    DirectPlan plan, void* stream) {
  if (!indexable(s)) return cudaErrorInvalidValue;
  return with_type(type, [&](auto element, auto tensor) {
    using T = decltype(element);
    const WindowProduct<T> product{view<T>(grad, s.out_stride, s.filters), gradient_window(s),
                                   filters<T>(weight, s.kernel_h * s.kernel_w, s.filters),
                                   map_result<T>(grad_map, partial, nullptr, s.map_stride, s.batch,
                                                 s.channels, s.height * s.width)};
    return run_windows<T, decltype(tensor)::value>(product, plan, stream);
  });
}

int atrous_direct_weight_gradient_cuda(const void* map, const void* grad, void* grad_weight,
                                       void* partial, const AtrousDirectShape& s, DirectType type,
                                       DirectPlan plan, void* stream) {
  if (!indexable(s)) return cudaErrorInvalidValue;
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const int64_t taps = s.kernel_h * s.kernel_w, filter = taps * s.channels;
  return with_type(type, [&](auto element, auto tensor) {
    using T = decltype(element);
    const Result<T> result{static_cast<T*>(grad_weight),
                           static_cast<typename Number<T>::Sum*>(partial),
                           nullptr,
                           s.filters * filter,
                           s.channels,
                           s.filters,
                           s.channels,
                           0,
                           1,
                           filter};
    const WeightProduct<T> product{view<T>(map, s.map_stride, s.channels),
                                   view<T>(grad, s.out_stride, s.filters),
                                   s.batch,
                                   i(s.height),
                                   i(s.width),
                                   i(s.out_height),
                                   i(s.out_width),
                                   i(s.kernel_w),
                                   i(s.stride_h),
                                   i(s.stride_w),
                                   i(s.pad_h),
                                   i(s.pad_w),
                                   i(s.rate_h),
                                   i(s.rate_w),
                                   0,
                                   result};
    return run_weights<T, decltype(tensor)::value>(product, taps, plan, stream);
  });
}

}  // namespace deeplab_native
