// Bindings of labels for large images, see ops/joint_labels.h.
#include "bindings.h"
#include "ops/joint_labels.h"

namespace deeplab_native {

namespace py = pybind11;

void bind_joint(py::module_& m) {
  py::class_<JointMessage>(m, "JointMessage")
      .def(py::init([](Address image, const std::string& dtype, std::array<int64_t, 3> strides,
                       Pair size, std::array<float, 2> sigmas,
                       const std::vector<float>& sigma_colour, Address cells, Address q,
                       int64_t num_cells, int num_labels, float pixels_in_each, int normalization,
                       int num_threads) {
             const int d = 2 + static_cast<int>(sigma_colour.size());
             return joint_message_cpu(
                 image_of(image, dtype, {strides.begin(), strides.end()}, {size[0], size[1]},
                          {sigmas[1], sigmas[0]}, sigma_colour),
                 {{pointer<const float>(cells), 1, num_cells, num_cells, d, false},
                  pointer<const float>(q),
                  num_labels,
                  pixels_in_each},
                 static_cast<Normalization>(normalization), num_threads);
           }),
           Unlocked())
      .def_property_readonly("num_vertices", &JointMessage::num_vertices)
      .def(
          "label",
          [](const JointMessage& self, Address scores, int64_t first, int64_t count, int all_labels,
             const std::vector<int>& labels, float weight, Address out, int num_threads) {
            self.label({pointer<float>(scores), first, count}, all_labels, labels, weight,
                       pointer<uint8_t>(out), num_threads);
          },
          Unlocked())
      .def(
          "add",
          [](const JointMessage& self, Address scores, int64_t first, int64_t count,
             const std::vector<int>& labels, float weight, int num_threads) {
            self.add({pointer<float>(scores), first, count}, labels, weight, num_threads);
          },
          Unlocked());
  m.def(
      "largest_labels_cpu",
      [](Address scores, int labels, int64_t plane, Address out, int num_threads) {
        largest_labels_cpu(pointer<const float>(scores), labels, plane, pointer<uint8_t>(out),
                           num_threads);
      },
      Unlocked());
  m.def(
      "enlarge_rows_cpu",
      [](Address planes, int64_t num_planes, Pair size, std::array<Address, 3> down,
         std::array<Address, 3> across, int64_t first, int64_t count, int64_t out_width, bool add,
         float factor, Address out, int num_threads) {
        const auto taps = [](const std::array<Address, 3>& a) {
          return Taps{pointer<const int32_t>(a[0]), pointer<const int32_t>(a[1]),
                      pointer<const float>(a[2])};
        };
        enlarge_rows_cpu(pointer<const float>(planes), num_planes, size[0], size[1], taps(down),
                         taps(across), first, count, out_width, add, factor, pointer<float>(out),
                         num_threads);
      },
      Unlocked());
}

}  // namespace deeplab_native
