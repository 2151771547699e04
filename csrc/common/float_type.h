// The floating-point type of a tensor, as Python names it, and the choice of a template by it.
#pragma once
#include <stdexcept>
#include <string>

#include "common/half.h"

namespace deeplab_native {

enum class FloatType { kFloat32, kFloat64, kBfloat16, kFloat16 };

inline FloatType float_type(const std::string& name) {
  if (name == "float32") return FloatType::kFloat32;
  if (name == "float64") return FloatType::kFloat64;
  if (name == "bfloat16") return FloatType::kBfloat16;
  if (name == "float16") return FloatType::kFloat16;
  throw std::invalid_argument("dtype: expected a floating-point type, got " + name);
}

// run(T{}) with the type's T.
template <class Run>
auto with_float_type(FloatType type, const Run& run) {
  switch (type) {
    case FloatType::kFloat64:
      return run(double{});
    case FloatType::kBfloat16:
      return run(Bfloat16{});
    case FloatType::kFloat16:
      return run(Float16{});
    default:
      return run(float{});
  }
}

}  // namespace deeplab_native
