// How the factors of the direct convolution's matrix products come to shared memory: through
// registers, one vector of channels (16 bytes) at a time, so that the loads of the next step are
// under way while the present one is multiplied.
#pragma once
#include "cuda/tile_mma.cuh"
#include "cuda/window.cuh"

namespace deeplab_native {

// A map, or a stack of filters, in device memory.
template <class T>
struct MapView {
  const T* data;
  int64_t batch_stride, row_stride, col_stride, channel_stride;  // elements
  int channels;
  bool whole_vectors;      // the channels are adjacent, their vectors whole and aligned
  bool lanes_on_channels;  // neighbouring lanes load vectors of one item, else of adjacent items
};

// One vector: `count` channels, `step` elements apart, zeros after them.
template <class T>
__device__ uint4 load_vector(const T* from, int64_t step, int count, bool whole) {
  if (whole) return *reinterpret_cast<const uint4*>(from);
  Pack<T, kVectorItems<T>> items;
#pragma unroll
  for (int e = 0; e < kVectorItems<T>; ++e) items.items[e] = e < count ? from[e * step] : T{};
  uint4 vector;
  memcpy(&vector, &items, sizeof vector);
  return vector;
}

// The vectors of one factor's tile that this thread moves, on their way.
template <class T, bool kTensor, class Factor, int threads>
struct Stage {
  static constexpr int kSlots = Factor::kItems * Factor::kVectors / threads;
  static_assert(kSlots * threads == Factor::kItems * Factor::kVectors, "no thread is left over");
  uint4 vectors[kSlots];

  __device__ static int item(int slot, bool lanes_on_channels) {
    const int place = threadIdx.x + slot * threads;
    return lanes_on_channels ? place / Factor::kVectors : place % Factor::kItems;
  }
  __device__ static int vector(int slot, bool lanes_on_channels) {
    const int place = threadIdx.x + slot * threads;
    return lanes_on_channels ? place % Factor::kVectors : place / Factor::kItems;
  }

  __device__ void put(T* tile, bool lanes_on_channels) const {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      T* to = tile + item(slot, lanes_on_channels) * Factor::kPitch +
              vector(slot, lanes_on_channels) * kVectorItems<T>;
      *reinterpret_cast<uint4*>(to) = rounded(vectors[slot]);
    }
  }

  __device__ static uint4 rounded(uint4 vector) {
    if constexpr (kTensor && sizeof(T) == 4) {
      float items[4];
      memcpy(items, &vector, sizeof vector);
#pragma unroll
      for (int e = 0; e < 4; ++e) items[e] = round_to_tfloat32(items[e]);
      memcpy(&vector, items, sizeof vector);
    }
    return vector;
  }
};

// Items: the pixels of a grid; along the channels, one tap after the other.
template <class T, bool kTensor, int extent, int threads>
class WindowLoader {
  using Factor = FactorTile<T, true, extent>;
  using Staged = Stage<T, kTensor, Factor, threads>;
  static constexpr int kOutside = -(1 << 30);  // no tap reaches the map from this row

 public:
  __device__ WindowLoader(const MapView<T>& map, const Window& window, int64_t first, int64_t items)
      : map_(map), window_(window) {
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      const int64_t pixel = first + Staged::item(slot, map.lanes_on_channels);
      const int64_t row = pixel / window.grid_width, b = row / window.grid_height;
      const int x = static_cast<int>(pixel - row * window.grid_width);
      const int y = static_cast<int>(row - b * window.grid_height);
      channel_[slot] = Staged::vector(slot, map.lanes_on_channels) * kVectorItems<T>;
      start_[slot] = b * map.batch_stride + channel_[slot] * map.channel_stride;
      y_[slot] = pixel < items ? y * window.step_h + window.offset_h : kOutside;
      x_[slot] = x * window.step_w + window.offset_w;
    }
  }

  // Whether tap (i, j) of any of this thread's pixels lies on the map.
  __device__ bool reaches(int i, int j) const {
    bool any = false;
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      any |= window_.reaches(y_[slot], x_[slot], i, j);
    }
    return any;
  }

  // Channels from `channel` on, of tap (i, j).
  __device__ void fetch(int i, int j, int channel) {
    const Window& w = window_;
    const T* from = map_.data + channel * map_.channel_stride;
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      const int y = Window::on_map(y_[slot] + i * w.tap_h, w.div_h, w.height);
      const int x = Window::on_map(x_[slot] + j * w.tap_w, w.div_w, w.width);
      const int count = map_.channels - channel - channel_[slot];
      const int64_t at = start_[slot] + y * map_.row_stride + x * map_.col_stride;
      stage_.vectors[slot] =
          y >= 0 && x >= 0 && count > 0
              ? load_vector(from + at, map_.channel_stride, count, map_.whole_vectors)
              : uint4{};
    }
  }

  __device__ void put(T* tile) const { stage_.put(tile, map_.lanes_on_channels); }

 private:
  const MapView<T>& map_;
  const Window& window_;
  int64_t start_[Staged::kSlots];
  int y_[Staged::kSlots], x_[Staged::kSlots], channel_[Staged::kSlots];
  Staged stage_;
};

// Items: filters, (filters, taps, channels) contiguous; along the channels, as WindowLoader.
template <class T, bool kTensor, int extent, int threads>
class FilterLoader {
  using Factor = FactorTile<T, true, extent>;
  using Staged = Stage<T, kTensor, Factor, threads>;

 public:
  __device__ FilterLoader(const MapView<T>& filters, int64_t first, int64_t items)
      : filters_(filters) {
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      const int64_t item = first + Staged::item(slot, true);
      const int channel = Staged::vector(slot, true) * kVectorItems<T>;
      left_[slot] = item < items ? filters.channels - channel : 0;
      start_[slot] = item * filters.batch_stride + channel;
    }
  }

  __device__ void fetch(int tap, int channel) {
    const T* from = filters_.data + tap * filters_.col_stride + channel;
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      const int count = left_[slot] - channel;
      stage_.vectors[slot] =
          count > 0 ? load_vector(from + start_[slot], 1, count, filters_.whole_vectors) : uint4{};
    }
  }

  __device__ void put(T* tile) const { stage_.put(tile, true); }

 private:
  const MapView<T>& filters_;
  int64_t start_[Staged::kSlots];
  int left_[Staged::kSlots];  // channels from this vector's first one on
  Staged stage_;
};

// Items: the pixels of a rectangle of each map, one after the other; the channels stay.
template <class T, bool kTensor, int extent, int threads>
class PixelLoader {
  using Factor = FactorTile<T, false, extent>;
  using Staged = Stage<T, kTensor, Factor, threads>;

 public:
  // From pixel `first` on, of the `height` x `width` pixels of every one of `batch` maps.
  __device__ PixelLoader(const MapView<T>& map, int channel, int64_t first, int64_t batch,
                         int height, int width)
      : map_(map), batch_(batch), height_(height), width_(width) {
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      const int64_t pixel = first + Staged::item(slot, map.lanes_on_channels);
      const int64_t row = pixel / width;
      x_[slot] = static_cast<int>(pixel - row * width);
      b_[slot] = row / height;
      y_[slot] = static_cast<int>(row - b_[slot] * height);
      channel_[slot] = channel + Staged::vector(slot, map.lanes_on_channels) * kVectorItems<T>;
    }
    constexpr int kStep = Factor::kItems;
    step_x_ = kStep % width, step_y_ = kStep / width % height, step_b_ = kStep / width / height;
  }

  // The pixels of one step; the next call continues after them.
  __device__ void fetch() {
#pragma unroll
    for (int slot = 0; slot < Staged::kSlots; ++slot) {
      const int count = map_.channels - channel_[slot];
      const T* from = map_.data + b_[slot] * map_.batch_stride + y_[slot] * map_.row_stride +
                      x_[slot] * map_.col_stride + channel_[slot] * map_.channel_stride;
      stage_.vectors[slot] = b_[slot] < batch_ && count > 0
                                 ? load_vector(from, map_.channel_stride, count, map_.whole_vectors)
                                 : uint4{};
      x_[slot] += step_x_, y_[slot] += step_y_, b_[slot] += step_b_;
      if (x_[slot] >= width_) x_[slot] -= width_, ++y_[slot];
      if (y_[slot] >= height_) y_[slot] -= height_, ++b_[slot];
    }
  }

  __device__ void put(T* tile) const { stage_.put(tile, map_.lanes_on_channels); }

 private:
  const MapView<T>& map_;
  int64_t batch_, b_[Staged::kSlots];
  int height_, width_, step_x_, step_y_, step_b_;
  int y_[Staged::kSlots], x_[Staged::kSlots], channel_[Staged::kSlots];
  Staged stage_;
};

}  // namespace deeplab_native
