// The memory of a mean field that works on hot labels, and its updates: see hot_labels.cuh.
#pragma once
#include "cuda/hot_labels.cuh"
#include "ops/mean_field.h"

namespace deeplab_native {

// What weighs the messages: a number, or one for each label.
struct HotKernels {
  int32_t labels;
  int count;
  CompatibilityKind kinds[kMaxFilters];  // no matrix
  const float* compatibilities[kMaxFilters];
};

struct HotMemory {
  float* negative_unary;  // [batch][points][width], each label at its place
  float* rest;            // [chunks][batch][points]
  float* log_sum;         // [batch][points]
  int32_t* labels;        // [batch][width]
  float* bound;           // [1]
  void* zeros;            // what begins as 0:
  size_t zero_bytes;
  int32_t* counts;       // [updates + 1][batch] chunks that are stored after an update
  uint32_t* most;        // [updates + 1][batch][chunks]
  uint32_t* label_most;  // [batch][width]

  // Update 1, 2, ...
  HotStep step(const CudaMeanFieldShape& shape, int update) const {
    const int64_t chunks = mean_field_width_cuda(shape.num_labels) / kHotChunk;
    const int64_t before = update - 1;
    HotStep s{};
    s.batch = shape.batch;
    s.num_points = shape.num_points;
    s.chunks = static_cast<uint32_t>(chunks);
    s.negative_unary = negative_unary;
    s.labels = labels;
    s.rest = rest;
    s.bound = bound;
    s.log_sum_before = before == 0 ? rest : log_sum;  // from chunk 0 on: of all
    s.count_before = counts + before * shape.batch;
    s.most = most + before * shape.batch * chunks;
    s.count = counts + update * shape.batch;
    s.log_sum = log_sum;
    s.most_after = most + update * shape.batch * chunks;
    return s;
  }
};

HotMemory hot_memory(const CudaMeanFieldShape& shape, int updates, void* base,
                     size_t* bytes = nullptr);
// Rows of -U -> all that the first update needs, and q = softmax(-U), labels in their order.
cudaError_t order_labels(const CudaMeanFieldShape& shape, const float* negative_unary,
                         const HotKernels& kernels, const HotMemory& to, float* q,
                         cudaStream_t stream);

}  // namespace deeplab_native
