// Regions in which a thread throws between barriers: they end, with its exception, and the next
// ones work. Prints a line for each; a hang is the test's time limit.
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "common/parallel.h"

using deeplab_native::run_team;
using deeplab_native::Team;

int main() {
  for (int threads : {2, 3, 8}) {
    for (int thrower = 0; thrower < threads; ++thrower) {
      for (int at = 0; at < 4; ++at) {
        try {
          run_team(threads, [&](Team& team) {
            for (int step = 0; step < 4; ++step) {
              if (team.id() == thrower && step == at) throw std::runtime_error("no memory");
              team.barrier();
            }
          });
          return std::puts("not thrown"), 1;
        } catch (const std::runtime_error&) {
        }
        std::vector<int> sums(threads), seen(threads);
        run_team(threads, [&](Team& team) {
          for (int step = 0; step < 8; ++step) {
            sums[team.id()] = step;
            team.barrier();
            for (int t = 0; t < threads; ++t) seen[team.id()] += sums[t] == step;
            team.barrier();
          }
        });
        for (int count : seen) {
          if (count != 8 * threads) return std::puts("a barrier did not hold"), 1;
        }
      }
    }
    std::printf("%d threads\n", threads);
  }
}
