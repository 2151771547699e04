// What a bridged lattice is: one that is closer to the Gaussian which it stands for, but is not
// pydensecrf's.
//
// Most of a lattice's error comes from blur neighbours that are missing, since no point touches
// them. A bridged lattice also has the vertices without points that have kBridgeNeighbours
// neighbours, or more, among those with points; what its blurs bring there goes on to the next
// ones. The rest of the error is mostly that it is a little too wide: features are kBridgedScale
// times as large. Both numbers were found by comparing with the exact mean field on photographs
// (benchmarks/results/NOTES.md, 29 November 2026). Up to kPackedDim dimensions.
#pragma once
#include <cmath>

namespace deeplab_native {

constexpr int kBridgeNeighbours = 2;
constexpr double kBridgedScale = 1.04;

// What feature k of d is multiplied with when it is elevated: so that the blur's standard deviation
// is 1.
inline float elevation_scale(int k, int d, bool bridged) {
  const float inverse_deviation = std::sqrt(2.0 / 3.0) * (d + 1);  // of the blur, in lattice units
  return static_cast<float>(1.0 / std::sqrt((k + 2.0) * (k + 1.0)) *
                            static_cast<double>(inverse_deviation) *
                            (bridged ? kBridgedScale : 1.0));
}

}  // namespace deeplab_native
