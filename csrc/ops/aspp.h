// The sum of atrous convolutions over one input, the head of DeepLab v2 (section 3.2, Figure 4):
// one matrix product Y from the input to every filter tap of every branch, then the sum over the
// taps of Y shifted by their offsets.
//
// Layouts of Y, of T taps at offsets (dy_t, dx_t):
//   planes:         Y[b][t][o][y][x], of contiguous maps;
//   channels_last:  Y[b][y][x][t][o], with `padded` >= channels items for each tap, so that taps
//                   can begin at addresses that are multiples of 16 bytes. What lies between
//                   channels and padded is zero where Y is written, and its values do not matter
//                   where it is read.
#pragma once
#include <cstdint>
#include <vector>

#include "common/float_type.h"

namespace deeplab_native {

struct AsppShape {
  int64_t batch, channels, height, width;  // of the head's output
  int64_t padded;                          // items of a tap in a channels_last Y
  bool channels_last;                      // of Y
  bool map_channels_last;                  // of the map; as Y, but where it says otherwise
};

struct TapOffset {
  int32_t dy, dx;  // pixels, from the output's pixel to the input's
};
constexpr int kMaxAsppTaps = 256;  // they travel to the device as an argument of the kernel

// out[b, o, y, x] = bias[o] + sum over t of Y[b, t, o, y + dy_t, x + dx_t], in the order of the
// taps; what falls outside the map counts as zero. bias: of the sums' type (double for double, else
// float), or null. Sums of 2-byte types are float, rounded once.
void aspp_gather_cpu(const void* y, const void* bias, void* out, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, int num_threads);

// The adjoint: Y[b, t, o, y, x] = map[b, o, y - dy_t, x - dx_t], zero from outside the map.
void aspp_spread_cpu(const void* map, void* y, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, int num_threads);

// One branch's weight (filters, channels, kernel) among the taps' rows (T, filters, channels) of
// the matrix. Filter tap k belongs to row index[k], or to none where index[k] < 0.
struct AsppPackShape {
  int64_t filters, channels;
  std::vector<int32_t> index;  // of each filter tap; no row twice
  std::vector<bool> add;       // to pack: whether the row has a value already, to be added to
};
// packed[index[k], o, c] = weight[o, c, k], or += it; packed is of the sums' type.
void aspp_pack_cpu(const void* weight, void* packed, const AsppPackShape& shape, FloatType type,
                   int num_threads);
// weight[o, c, k] = packed[index[k], o, c], zero for taps without a row; both of one type.
void aspp_unpack_cpu(const void* packed, void* weight, const AsppPackShape& shape, FloatType type,
                     int num_threads);

// The whole head of float32 and float64 on the CPU, which computes no more of Y than falls into the
// map:
//   out[b, o, y, x] = bias[o] + sum over branches, k, c of weight[o, c, k] input[b, c, (y, x) +
//   d_k]
// where d_k is the offset taps[index[k]], and filter taps with index[k] < 0 are left out.
struct AsppBranch {
  const void* weight;  // (filters, channels, kernel), with these strides
  int64_t filter_stride, channel_stride, tap_stride;
  std::vector<int32_t> index;  // of each filter tap; no row twice
};
struct AsppForwardShape {
  int64_t batch, channels, height, width;  // of the input
  bool channels_last;                      // the input's layout; out is contiguous
  int64_t filters;
  int64_t images;  // that go through at a time: Y takes as much memory as they need
};
// Throws std::invalid_argument where the branches' indices are not, together, all rows of taps, and
// for 2-byte types.
void aspp_forward_cpu(const void* input, const std::vector<AsppBranch>& branches, const void* bias,
                      void* out, const AsppForwardShape& shape, const std::vector<TapOffset>& taps,
                      FloatType type, int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same on the device; stream is a cudaStream_t. Return a cudaError_t, 0 for success;
// cudaErrorInvalidValue for more than kMaxAsppTaps taps, and where a channels_last Y has taps that
// are neither whole aligned words of 16 bytes nor without a gap. From a channels_last Y of whole
// words the gather writes a contiguous map, too.
int aspp_gather_cuda(const void* y, const void* bias, void* out, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, void* stream);
int aspp_spread_cuda(const void* map, void* y, const AsppShape& shape,
                     const std::vector<TapOffset>& taps, FloatType type, void* stream);

// to[b, column, row] = from[b, row, column], of elements of 2 or 4 bytes, else
// cudaErrorInvalidValue: a contiguous map to channels_last (rows are channels, columns are pixels)
// and back.
struct AsppTransposeShape {
  int64_t batch, rows, columns;
};
int aspp_transpose_cuda(const void* from, void* to, const AsppTransposeShape& shape, FloatType type,
                        void* stream);

// All branches' weights to the matrix (taps, padded, channels) of packed_type, as aspp_pack_cpu one
// after the other: sums of the sums' type, rounded once; zero from filter `filters` on, and in rows
// that no filter tap belongs to. packed_type is double where type is, and only there.
// bias[o] = the sum of all biases[..][o] in their order, of the sums' type; biases are of `type`.
// Without biases, bias is not written.
struct AsppPackBranch {
  const void* weight;
  std::vector<int32_t> index;
};
struct AsppPackedShape {
  int64_t taps, filters, padded, channels;
};
// cudaErrorInvalidValue for more branches, biases, or filter taps with a row, than these.
constexpr int kMaxPackBranches = 32, kMaxPackSources = 320;
int aspp_pack_cuda(const std::vector<AsppPackBranch>& branches,
                   const std::vector<const void*>& biases, void* packed, void* bias,
                   const AsppPackedShape& shape, FloatType type, FloatType packed_type,
                   void* stream);
int aspp_unpack_cuda(const void* packed, void* weight, const AsppPackShape& shape, FloatType type,
                     void* stream);
#endif

}  // namespace deeplab_native
