// The windows (window.cuh) of a direct atrous convolution, and how far they may reach.
#pragma once
#include <initializer_list>

#include "cuda/window.cuh"
#include "ops/atrous_direct.h"

namespace deeplab_native {

constexpr int64_t kMaxReach = int64_t{1} << 30;  // pixels; two of them still add up in an int

inline bool all_within(int64_t limit, std::initializer_list<int64_t> sizes) {
  for (const int64_t size : sizes) {
    if (size > limit) return false;
  }
  return true;
}

inline bool indexable(const AtrousDirectShape& s) {
  return all_within(kMaxReach,
                    {s.height + 2 * s.pad_h, s.width + 2 * s.pad_w, s.channels, s.filters,
                     s.kernel_h * s.rate_h, s.kernel_w * s.rate_w, s.kernel_h * s.kernel_w,
                     s.out_height * s.stride_h, s.out_width * s.stride_w});
}

inline Window forward_window(const AtrousDirectShape& s) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  return {i(s.height),
          i(s.width),
          i(s.out_height),
          i(s.out_width),
          i(s.kernel_h),
          i(s.kernel_w),
          i(s.stride_h),
          i(s.stride_w),
          i(-s.pad_h),
          i(-s.pad_w),
          i(s.rate_h),
          i(s.rate_w),
          1,
          1};
}

// The other way round: the outputs whose taps lie on a pixel of the map.
inline Window gradient_window(const AtrousDirectShape& s) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  return {i(s.out_height),
          i(s.out_width),
          i(s.height),
          i(s.width),
          i(s.kernel_h),
          i(s.kernel_w),
          1,
          1,
          i(s.pad_h),
          i(s.pad_w),
          i(-s.rate_h),
          i(-s.rate_w),
          i(s.stride_h),
          i(s.stride_w)};
}

}  // namespace deeplab_native
