#include "cuda/add_parts.cuh"
#include "cuda/atrous_pipelined.cuh"
#include "cuda/atrous_windows.h"
#include "ops/atrous_pipelined.h"

namespace deeplab_native {
namespace {

// In the order of DirectPlan::tile. Registers: 128, 128, 64, 32 and 32 sums a thread.
using HugeTile = PipelinedTile<256, 128, 64, 64, 1>;
using LargeTile = PipelinedTile<128, 128, 64, 64, 2>;
using MiddleTile = PipelinedTile<128, 64, 64, 32, 3>;
using SmallTile = PipelinedTile<64, 64, 32, 32, 4>;
using NarrowTile = PipelinedTile<128, 32, 32, 32, 3>;  // for a score map of few classes

// Calls run(T{}); of other types there is no product here.
template <class Run>
cudaError_t with_type(DirectType type, const Run& run) {
  switch (type) {
    case DirectType::kTfloat32:
      return run(float{});
    case DirectType::kBfloat16:
      return run(Bfloat16{});
    case DirectType::kFloat16:
      return run(Float16{});
    default:
      return cudaErrorInvalidValue;
  }
}

bool whole_vectors(const void* data, std::initializer_list<int64_t> strides, int64_t items) {
  bool whole = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (const int64_t stride : strides) whole = whole && stride % items == 0;
  return whole;
}

// Whether all offsets fit the integers of the kernel.
bool countable(const AtrousDirectShape& s, int64_t items) {
  constexpr int64_t kVectors = int64_t{1} << 30, kResults = int64_t{1} << 31;
  const int64_t reach = (s.batch - 1) * s.map_stride[0] + (s.height - 1) * s.map_stride[2] +
                        (s.width - 1) * s.map_stride[3] + s.channels;
  const int64_t filters = s.filters * s.kernel_h * s.kernel_w * s.channels;
  return reach / items < kVectors && filters / items < kVectors &&
         s.batch * s.filters * s.out_height * s.out_width < kResults;
}

template <class T>
PipelinedProduct<T> product(const void* map, const void* weight, const void* bias, void* out,
                            void* partial, const AtrousDirectShape& s, int parts) {
  constexpr int64_t kItems = 16 / sizeof(T);
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  PipelinedProduct<T> p{};
  p.map = static_cast<const uint4*>(map);
  p.batch_stride = i(s.map_stride[0] / kItems);
  p.row_stride = i(s.map_stride[2] / kItems), p.col_stride = i(s.map_stride[3] / kItems);
  p.filters = static_cast<const uint4*>(weight);
  p.vectors = i(s.channels / kItems);
  p.window = forward_window(s);
  p.order = {
      parts < 2 ? i(s.batch) : 1, i(s.out_height), i(s.out_width),
      ranges_of_taps(i(s.out_height), s.stride_h, -s.pad_h, s.rate_h, i(s.kernel_h), s.height),
      ranges_of_taps(i(s.out_width), s.stride_w, -s.pad_w, s.rate_w, i(s.kernel_w), s.width)};
  p.rows = p.order.images * i(s.out_height * s.out_width);
  p.cols = i(s.filters);
  p.out = static_cast<T*>(out);
  p.partial = parts < 2 ? nullptr : static_cast<float*>(partial);
  p.bias = static_cast<const T*>(bias);
  p.size = s.batch * s.filters * s.out_height * s.out_width;
  p.out_batch_stride = i(s.out_stride[0]), p.out_filter_stride = i(s.out_stride[1]);
  p.out_row_stride = i(s.out_stride[2]), p.out_col_stride = i(s.out_stride[3]);
  const uintptr_t four = 4 * (p.partial == nullptr ? sizeof(T) : sizeof(float));
  const auto to = p.partial == nullptr ? reinterpret_cast<uintptr_t>(out)
                                       : reinterpret_cast<uintptr_t>(partial);
  p.whole = s.out_stride[1] == 1 && s.filters % 4 == 0 && to % four == 0;
  return p;
}

template <class T, class Tile>
cudaError_t run_tile(PipelinedProduct<T> p, int groups, int parts, cudaStream_t stream) {
  const auto kernel = atrous_pipelined_kernel<T, Tile>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kSharedBytes);
  if (error != cudaSuccess) return error;
  p.row_tiles = (p.rows + Tile::kRows - 1) / Tile::kRows;
  const dim3 grid(groups * p.row_tiles, (p.cols + Tile::kCols - 1) / Tile::kCols, parts);
  return launch(kernel, grid, dim3(Tile::kThreads), Tile::kSharedBytes, stream, p, parts);
}

template <class T>
cudaError_t run_plan(const PipelinedProduct<T>& p, int groups, DirectPlan plan,
                     cudaStream_t stream) {
  switch (plan.tile) {
    case 0:
      return run_tile<T, HugeTile>(p, groups, plan.parts, stream);
    case 1:
      return run_tile<T, LargeTile>(p, groups, plan.parts, stream);
    case 2:
      return run_tile<T, MiddleTile>(p, groups, plan.parts, stream);
    case 3:
      return run_tile<T, SmallTile>(p, groups, plan.parts, stream);
    case 4:
      return run_tile<T, NarrowTile>(p, groups, plan.parts, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int atrous_pipelined_first_tile() {
#if defined(CUDA_EMU)
  return 0;
#else
  // of the kernel that runs here, machine code or PTX that the driver compiled
  cudaFuncAttributes attributes;
  int device = 0, room = 0;
  if (cudaFuncGetAttributes(&attributes, atrous_pipelined_kernel<Bfloat16, SmallTile>) !=
          cudaSuccess ||
      cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess) {
    cudaGetLastError();  // no kernel image: nothing that a later call should report
    return -1;
  }
  if (attributes.ptxVersion < 80) return -1;
  const auto fits = [&](int rows, int stages) {
    return stages + rows * static_cast<int>(sizeof(RowPlace)) + 64 <= room;
  };
  if (fits(HugeTile::kRows, HugeTile::kSharedBytes)) return 0;
  return fits(LargeTile::kRows, LargeTile::kSharedBytes) ? 1 : -1;
#endif
}

int atrous_pipelined_cuda(const void* map, const void* weight, const void* bias, void* out,
                          void* partial, const AtrousDirectShape& s, DirectType type,
                          DirectPlan plan, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  return with_type(type, [&](auto element) {
    using T = decltype(element);
    constexpr int64_t kItems = 16 / sizeof(T);
    if (!indexable(s) || !countable(s, kItems) || plan.parts < 1 || s.map_stride[1] != 1 ||
        !whole_vectors(map, {s.map_stride[0], s.map_stride[2], s.map_stride[3], s.channels},
                       kItems) ||
        !whole_vectors(weight, {}, kItems)) {
      return cudaErrorInvalidValue;
    }
    const auto p = product<T>(map, weight, bias, out, partial, s, plan.parts);
    if (p.size == 0) return cudaSuccess;
    const int groups = plan.parts < 2 ? 1 : static_cast<int>(s.batch);
    const cudaError_t error = run_plan(p, groups, plan, on);
    if (error != cudaSuccess || plan.parts < 2) return error;
    return add_parts(p.partial, p.out, p.size, plan.parts, on);
  });
}

}  // namespace deeplab_native
