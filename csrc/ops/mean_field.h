// Mean field inference in the fully connected CRF (Kraehenbuehl and Koltun 2011, algorithm 1):
//
//   Q <- softmax_l( -U - sum_m C_m (K_m Q) )        starting from Q = softmax_l(-U)
//
// over N points and L labels, with unary energies U [L, N], pairwise kernels K_m (a permutohedral
// filter, normalised) and label compatibilities C_m.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "ops/permutohedral.h"

namespace deeplab_native {

// With k = K 1: K itself, K / k before filtering, after it, or its square root on both sides.
enum class Normalization { kNone = 0, kBefore = 1, kAfter = 2, kSymmetric = 3 };

// The energy that a kernel adds, given the filtered marginals F = K Q at one point:
//   kPotts:  -w F[l]          kVector: v[l] F[l]          kMatrix: sum_m 1/2 (M + M^T)[l, m] F[m]
enum class CompatibilityKind { kPotts = 0, kVector = 1, kMatrix = 2 };

// Whether no value is NaN or infinite.
template <class T>
bool all_finite_cpu(const T* values, int64_t count, int num_threads);

template <class T>
struct KernelPass;  // cpu/simd_kernels.h

// Threads may share an object: they wait for each other.
template <class T>
class MeanField {
 public:
  // width: of the image whose pixels the points are, 0 for others (see Blocks).
  MeanField(int64_t num_points, int num_labels, int num_threads, int64_t width = 0);
  ~MeanField();

  // compatibility: 1, L or L * L values, row-major. Computes the normalisation.
  void add_kernel(std::shared_ptr<const Lattice> lattice, CompatibilityKind kind,
                  const T* compatibility, Normalization normalization);
  // unary [L, N], finite (see all_finite_cpu).
  void set_unary(const T* unary);

  void inference(T* q, int iterations);  // q [L, N]
  void start(T* q);                      // softmax(-U)
  void step(const T* q, T* next);        // one update; q and next may be the same
  void energy(const T* q, T* out);       // -U - sum_m C_m (K_m Q), [L, N]
  double kl_divergence(const T* q);      // of Q from P, up to the constant log Z
  // out = K_m in, or its transpose, normalised; in, out [L, N]
  void filter(int kernel, const T* in, T* out, bool transposed);
  // back = K_m^T g; adds to weights, [entries], and scales, [blocks * 16], their gradients of
  // <g, K_m x> (lattice_gradient.h), which features_gradient then takes: what follows for the
  // features, [N][d], also by way of the normalisation. x, g, back [L, N]
  void filter_gradient(int kernel, const T* x, const T* g, T* back, T* weights, T* scales);
  void features_gradient(int kernel, const Features& features, T* weights, const T* scales, T* out);

  int num_kernels() const;
  const Lattice& lattice(int kernel) const;

 private:
  struct Kernel;
  enum class Output { kMarginals, kEnergy };
  void prepare();
  bool has_one_value() const;  // two labels, see two_labels.cpp
  void run_two_labels(T* out, int updates);
  void fill_rows(const T* unary);
  void make_rows_of_two();
  void run(const T* q_in, T* out, int updates, Output output);
  std::vector<KernelPass<T>> kernel_passes(int thread) const;

  void choose_places(const T* unary);
  void choose_by_score(const T* unary);

  std::mutex mutex_;
  Blocks blocks_;
  int num_labels_, num_threads_;
  int cold_;                          // width of the cold plane, see Planes in cpu/simd_kernels.h
  std::vector<int> places_, labels_;  // of each label in the planes, and of each place
  std::vector<Kernel> kernels_;
  bool has_unary_ = false;
  Buffer<T> unary_hot_, unary_cold_;  // min U - U
  Buffer<T> least_unary_;             // min U
  Buffer<T> two_unaries_;             // U where has_one_value(), [2][blocks * 16] ...
  bool has_rows_ = false;             // ... and whether the others were made of it
  Buffer<T> cold_sums_;

  // Made by prepare() after a kernel was added or the unary changed.
  bool prepared_ = false;
  std::vector<Kernel*> ordered_;  // Potts kernels first
  int corners_ = 0;               // of all kernels
  int64_t num_rows_ = 0;
  T negligible_marginal_ = 0;
  Buffer<T> rows_[2], cold_rows_[2];  // one is read while the other is written
};

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// On the device a batch is worked on as a whole, and its values lie point by point: rows of `width`
// values for each of the batch * num_points points, the labels and what fills a row up.
struct CudaMeanFieldShape {
  int64_t batch, num_labels, num_points;
};
int64_t mean_field_width_cuda(int64_t num_labels);

// rows = factor * values, values [batch][num_labels][num_points]; what fills a row up is `padding`.
// Rows come in the order of the lattices' points.
template <class T>
int labels_to_rows_cuda(const CudaMeanFieldShape& shape, const CudaPixelOrder& order,
                        const T* values, T* rows, T factor, T padding, void* stream);
// The way back.
template <class T>
int rows_to_labels_cuda(const CudaMeanFieldShape& shape, const CudaPixelOrder& order, const T* rows,
                        T* values, void* stream);

struct CudaPairwiseKernel {
  CudaFilter filter;  // replicas * images is the batch
  CompatibilityKind kind;
  const void* compatibility;  // on the device; a matrix is 1/2 (M + M^T), [L][L]
};
// `updates` times q = softmax(x), x = negative_unary - sum_m C_m (K_m q), beginning with
// q = softmax(negative_unary), or with the q that is given; without softmax the last update gives
// x. scratch: two times the rows, where there are more than kMaxFilters kernels or one has a
// matrix.
template <class T>
int mean_field_cuda(const CudaMeanFieldShape& shape, const std::vector<CudaPairwiseKernel>& kernels,
                    const T* negative_unary, T* q, T* scratch, int updates, bool q_is_given,
                    bool softmax, void* stream);

// The same from the start, with softmax, of the labels that matter (cuda/hot_labels.cuh): for 1 to
// kMaxFilters kernels without matrices that are normalised after filtering or on both sides. q is
// then for hot_rows_to_labels_cuda alone, with the same memory of hot_labels_bytes_cuda; that is 0
// where there are too few labels to choose from, or too many.
size_t hot_labels_bytes_cuda(const CudaMeanFieldShape& shape, int updates);
int hot_mean_field_cuda(const CudaMeanFieldShape& shape,
                        const std::vector<CudaPairwiseKernel>& kernels, const float* negative_unary,
                        float* q, void* memory, int updates, void* stream);
int hot_rows_to_labels_cuda(const CudaMeanFieldShape& shape, const CudaPixelOrder& order,
                            const float* rows, float* values, void* memory, int updates,
                            void* stream);
#endif

}  // namespace deeplab_native
