// The instruction set that the vector kernels use, chosen once at run time.
#pragma once

namespace deeplab_native {

enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

Isa best_isa();         // what this processor and operating system offer
Isa current_isa();      // what the kernels use: best_isa() unless set_isa was called
void set_isa(Isa isa);  // throws std::invalid_argument where the processor lacks it
const char* isa_name(Isa isa);

}  // namespace deeplab_native
