// Labels of a large image's pixels from a CRF over its cells, band by band (joint bilateral
// upsampling, Kopf et al. 2007; the last mean field update of Kraehenbuehl and Koltun 2011):
//
//   label(i) = argmax over l of s_l(i) + w n_i sum over v of b_iv R_l(v)
//
// with R the cells' marginals, splatted onto the permutohedral lattice of the appearance kernel and
// blurred there; b_iv the barycentric weights of pixel i; n_i its normalisation. Only cells are
// splatted: a pixel looks its vertices up, so memory goes with the cells and not with the pixels.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "ops/mean_field.h"
#include "ops/pairwise_features.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

// q: marginals of the labels that take part, [num_labels][cells.n]. cells: the features of the
// cells, in the units of the image's.
struct JointCells {
  Features features;
  const float* q;
  int num_labels;
  float pixels_in_each;  // of a cell: what it counts for where kernels are not normalised
};

// Rows [first, first + count) of the image: s [all labels][count][width], contiguous.
struct JointBand {
  float* scores;
  int64_t first, count;
};

// R on the lattice. Immutable once built; threads may share it.
class JointMessage {
 public:
  virtual ~JointMessage() = default;
  virtual int64_t num_vertices() const = 0;
  // Labels [count][width] of a band with s for `all_labels` labels; those that take part are named
  // by `labels`. Pixels whose label the message cannot change are not looked up. The same bits
  // whatever the bands and threads.
  virtual void label(const JointBand& band, int all_labels, const std::vector<int>& labels,
                     float weight, uint8_t* out, int num_threads) const = 0;
  // s + w n sum b R in place of s, at every pixel.
  virtual void add(const JointBand& band, const std::vector<int>& labels, float weight,
                   int num_threads) const = 0;
};

// Of an image of 2 axes, which is read as long as the message lives, and has to stay. Throws
// std::invalid_argument where the lattice cannot hold the image's features.
std::unique_ptr<JointMessage> joint_message_cpu(const Image& image, const JointCells& cells,
                                                Normalization normalization, int num_threads);

// The first of the largest of scores [labels][plane], out [plane].
void largest_labels_cpu(const float* scores, int labels, int64_t plane, uint8_t* out,
                        int num_threads);

// One axis of a bilinear interpolation: output i is (1 - fraction[i]) in[low[i]] + fraction[i]
// in[high[i]].
struct Taps {
  const int32_t *low, *high;
  const float* fraction;
};
// Rows [first, first + count) of planes [num_planes][height][width] enlarged by `down` and
// `across`: out [num_planes][count][out_width], or `factor` times them added to it.
void enlarge_rows_cpu(const float* planes, int64_t num_planes, int64_t height, int64_t width,
                      const Taps& down, const Taps& across, int64_t first, int64_t count,
                      int64_t out_width, bool add, float factor, float* out, int num_threads);

}  // namespace deeplab_native
