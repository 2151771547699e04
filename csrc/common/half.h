// bfloat16 and float16 as storage types: every sum is float. The same code on the host and on the
// device; the compiler of the device has instructions for most of it.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define DEEPLAB_HOST_DEVICE __host__ __device__
#else
#define DEEPLAB_HOST_DEVICE
#endif

namespace deeplab_native {

namespace half_bits {
DEEPLAB_HOST_DEVICE inline float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
DEEPLAB_HOST_DEVICE inline uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
}  // namespace half_bits

struct Bfloat16 {
  uint16_t bits;
  DEEPLAB_HOST_DEVICE operator float() const { return half_bits::as_float(uint32_t(bits) << 16); }
  // Nearest, ties to even; NaN stays NaN.
  DEEPLAB_HOST_DEVICE static Bfloat16 from(float value) {
    const uint32_t b = half_bits::as_bits(value);
    if ((b & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(b >> 16 | 0x40u)};
    return {static_cast<uint16_t>((b + 0x7fffu + (b >> 16 & 1u)) >> 16)};
  }
};

struct Float16 {
  uint16_t bits;
  DEEPLAB_HOST_DEVICE operator float() const {
    const uint32_t magnitude = uint32_t(bits & 0x7fffu) << 13;
    // Times 2^112 moves the exponent from half's bias to float's, for subnormal numbers as well.
    const float value = (bits & 0x7c00u) == 0x7c00u
                            ? half_bits::as_float(magnitude | 0x7f800000u)  // infinity, NaN
                            : half_bits::as_float(magnitude) * 0x1p112f;
    return bits & 0x8000u ? -value : value;
  }
  // Nearest, ties to even; what is too large becomes infinite.
  DEEPLAB_HOST_DEVICE static Float16 from(float value) {
    const uint32_t b = half_bits::as_bits(value);
    const uint32_t sign = b >> 16 & 0x8000u, magnitude = b & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u;  // NaN
    } else if (magnitude >= 0x47800000u) {
      half = 0x7c00u;  // 2^16 and more, infinity
    } else if (magnitude < 0x38800000u) {
      // below 2^-14: a subnormal half counts 2^-24ths, as the last bits of 0.5 + value do
      half = half_bits::as_bits(half_bits::as_float(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      half = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
    }
    return {static_cast<uint16_t>(sign | half)};
  }
};

// How values of type T are summed, and how a sum becomes a T again.
template <class T>
struct Number {
  using Sum = T;
  DEEPLAB_HOST_DEVICE static T from(Sum sum) { return sum; }
};
template <>
struct Number<Bfloat16> {
  using Sum = float;
  DEEPLAB_HOST_DEVICE static Bfloat16 from(float sum) { return Bfloat16::from(sum); }
};
template <>
struct Number<Float16> {
  using Sum = float;
  DEEPLAB_HOST_DEVICE static Float16 from(float sum) { return Float16::from(sum); }
};

}  // namespace deeplab_native
