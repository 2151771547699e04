// Index arithmetic, in int64 throughout: maps of more than 2^31 elements are legal.
#pragma once
#include <cstdint>

namespace deeplab_native {

// Towards minus infinity, and plus infinity, also for negative a; b > 0.
inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
inline int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

}  // namespace deeplab_native
