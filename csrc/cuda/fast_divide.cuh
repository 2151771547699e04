// Division of 32-bit numbers by one that the host knows, in a product, a sum and a shift.
#pragma once
#include "cuda/compat.cuh"

namespace deeplab_native {

class FastDivide {
 public:
  FastDivide() = default;
  // 1 <= divisor < 2^31
  explicit FastDivide(uint32_t divisor) : divisor_(divisor) {
    while ((uint64_t{1} << shift_) < divisor) ++shift_;
    const uint64_t excess = (uint64_t{1} << shift_) - divisor;
    factor_ = static_cast<uint32_t>((excess << 32) / divisor + 1);
  }
  // quotient * divisor + rest = n < 2^31. (Granlund and Montgomery, PLDI 1994: n (2^32 + factor) /
  // 2^(32 + shift) rounds down to the quotient.)
  __device__ uint32_t operator()(uint32_t n, uint32_t* rest) const {
    const uint32_t high = static_cast<uint32_t>((uint64_t{n} * factor_) >> 32);
    const uint32_t quotient = (high + n) >> shift_;
    *rest = n - quotient * divisor_;
    return quotient;
  }

 private:
  uint32_t divisor_ = 1, factor_ = 1, shift_ = 0;
};

}  // namespace deeplab_native
