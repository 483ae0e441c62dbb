// Splits loops over threads; it knows nothing about what the loops compute.
//
// Threads are made per call and joined before it returns. That costs ~20 us each, but nothing spins
// between calls (idle OpenMP teams do, and then steal the cores from torch's own team: two threads
// were slower than one), nothing breaks after fork(), and calls from several Python threads do not
// meet. Bodies write only to places that belong to their index, so results do not depend on the
// number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace glimpse {

int thread_count();

// Calls body(i) for i in [0, count), `grain` consecutive indices at a time.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (;;) {
            const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
            if (begin >= count) return;
            const int64_t end = std::min(begin + grain, count);
            for (int64_t i = begin; i < end; i++) body(i);
        }
    };
    const int64_t pieces = (count + grain - 1) / grain;
    const int64_t helpers = std::min<int64_t>(thread_count(), pieces) - 1;
    std::vector<std::thread> team;
    for (int64_t i = 0; i < helpers; i++) {
        try {
            team.emplace_back(work);
        } catch (const std::system_error&) {
            break;  // the system gives no more threads: go on with those we have
        }
    }
    work();
    for (auto& helper : team) helper.join();
}

}  // namespace glimpse
