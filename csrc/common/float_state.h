// How the processor rounds, and what it makes of denormal numbers, in the kernels.
//
// Both are a state of each thread, and threads inherit it from the one that makes them. A caller
// may have set it (torch.set_flush_denormal, fesetround, a library built with -ffast-math), before
// or after our threads were made: without this a result would depend on which thread computed what.
#pragma once
#include <cstdint>

namespace deeplab_native {

// To the nearest, denormals as they are, while it lives; afterwards what the caller had.
class OwnFloatState {
 public:
#if defined(__x86_64__)
  OwnFloatState() : old_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1f80); }
  ~OwnFloatState() { __builtin_ia32_ldmxcsr(old_); }
#elif defined(__aarch64__)
  OwnFloatState() {
    asm volatile("mrs %0, fpcr" : "=r"(old_));
    asm volatile("msr fpcr, xzr");
  }
  ~OwnFloatState() { asm volatile("msr fpcr, %0" : : "r"(old_)); }
#else
  OwnFloatState() : old_(0) {}
#endif
  OwnFloatState(const OwnFloatState&) = delete;

 private:
  [[maybe_unused]] uint64_t old_;
};

}  // namespace deeplab_native
