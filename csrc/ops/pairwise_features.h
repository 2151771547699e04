// Features of an image's pixels for the pairwise kernels of the CRF (DeepLab, equation 3).
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace deeplab_native {

struct Lattice;  // permutohedral.h

enum class PixelType { kUint8, kFloat32, kFloat64 };

// Value c of pixel (y, x) at data[c * strides[0] + y * strides[1] + x * strides[2]], 0..255.
struct Image {
  const void* data;
  PixelType type;
  std::array<int64_t, 3> strides;
};

// features [2 + C][height * width]: x / sigma_x, y / sigma_y and the C channels of the image over
// sigma_colour (C = 0: positions alone, the image is not looked at). Divided in float32, as
// pydensecrf does: a product with 1 / sigma differs in the last bit, and so may the lattice.
void pairwise_features_cpu(const Image& image, int64_t height, int64_t width, float sigma_x,
                           float sigma_y, const std::vector<float>& sigma_colour, float* features,
                           int num_threads);

// The lattice of these features, like pydensecrf's; they are not stored. And what it throws,
// without it (see check_features_cpu).
std::shared_ptr<const Lattice> build_image_lattice_cpu(const Image& image, int64_t height,
                                                       int64_t width, float sigma_x, float sigma_y,
                                                       const std::vector<float>& sigma_colour,
                                                       int num_threads);
void check_image_features_cpu(const Image& image, int64_t height, int64_t width, float sigma_x,
                              float sigma_y, const std::vector<float>& sigma_colour,
                              int num_threads);

#ifdef DEEPLAB_NATIVE_WITH_CUDA
// The same for `batch` images, image_stride elements apart: features [batch][2 + C][height *
// width].
int pairwise_features_cuda(const Image& image, int64_t image_stride, int64_t batch, int64_t height,
                           int64_t width, float sigma_x, float sigma_y,
                           const std::vector<float>& sigma_colour, float* features, void* stream);
#endif

}  // namespace deeplab_native
