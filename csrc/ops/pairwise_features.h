// Features of an image's pixels for the pairwise kernels of the CRF (DeepLab, equation 3), and of
// a volume's voxels.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace deeplab_native {

struct Lattice;  // permutohedral.h

enum class PixelType { kUint8, kFloat32, kFloat64 };

// Value c of pixel (z, y, x) at data[c * strides[0] + z * strides[1] + y * strides[2] + x *
// strides[3]], 0..255.
struct Image {
  const void* data;
  PixelType type;
  int axes;                        // 2, or 3 for a volume
  std::array<int64_t, 3> size;     // depth, height, width; an image of 2 axes has depth 1
  std::array<int64_t, 4> strides;  // of the channels and these
  std::array<float, 3> sigmas;     // of the axes z, y, x: what positions are divided by
  std::vector<float> channel_sigmas;
  bool bridged = false;  // its lattice, see bridged_lattice.h

  int dimensions() const { return axes + static_cast<int>(channel_sigmas.size()); }
  int64_t rows() const { return size[0] * size[1]; }
  int64_t pixels() const { return rows() * size[2]; }
  // Of size, that feature k < axes is the position along: features are x and y, as those of
  // pydensecrf's DenseCRF2D, or z, y and x, as those of its utils.create_pairwise_bilateral.
  int axis_of(int k) const { return axes == 2 ? 2 - k : k; }
};

// features [axes + C][pixels]: the positions and the C channels over their sigmas (C = 0: positions
// alone, the image is not looked at). Divided in float32, as pydensecrf does: a product with
// 1 / sigma differs in the last bit, and so may the lattice.
void pairwise_features_cpu(const Image& image, float* features, int num_threads);

// The lattice of these features, like pydensecrf's; they are not stored. And what it throws,
// without it (see check_features_cpu).
std::shared_ptr<const Lattice> build_image_lattice_cpu(const Image& image, int num_threads);
void check_image_features_cpu(const Image& image, int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same for `batch` images, image_stride elements apart: features [batch][axes + C][pixels].
int pairwise_features_cuda(const Image& image, int64_t image_stride, int64_t batch, float* features,
                           void* stream);
#endif

}  // namespace deeplab_native
