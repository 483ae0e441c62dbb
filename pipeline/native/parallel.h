// Splits loops over threads; it knows nothing about what the loops compute.
//
// Threads are made per call and joined before it returns. That costs ~20 us each, but nothing spins
// between calls (idle OpenMP teams do, and then steal the cores from torch's own team: two threads
// were slower than one), nothing breaks after fork(), and calls from several Python threads do not
// meet. Bodies write only to places that belong to their index, so results do not depend on the
// number of threads.
//
// An exception that leaves a thread, or a function that Python called, ends the process. So loops
// carry the first one to their caller and every function of the interface turns it into a Status.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace glimpse {

// What the functions of the interface return; pipeline/native/status.py knows the same numbers.
enum Status { kOk = 0, kOutOfMemory = 1, kUnsupported = 2 };

// The status of the exception being handled: for the catch (...) of a function of the interface.
int status_of_exception() noexcept;

int thread_count();

// Calls body(i) for i in [0, count), `grain` consecutive indices at a time. Throws what the first
// body threw, once all threads have ended; indices that nobody had begun by then are left out.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure;
    const auto work = [&]() noexcept {
        try {
            for (;;) {
                const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
                if (begin >= count || failed.load(std::memory_order_relaxed)) return;
                const int64_t end = std::min(begin + grain, count);
                for (int64_t i = begin; i < end; i++) body(i);
            }
        } catch (...) {
            if (!failed.exchange(true)) failure = std::current_exception();
        }
    };
    const int64_t pieces = (count + grain - 1) / grain;
    const int64_t helpers = std::max<int64_t>(0, std::min<int64_t>(thread_count(), pieces) - 1);
    std::vector<std::thread> team;
    team.reserve(helpers);  // not while threads run: a vector of them must not fail to grow
    for (int64_t i = 0; i < helpers; i++) {
        try {
            team.emplace_back(work);
        } catch (...) {
            break;  // the system gives no more threads: go on with those we have
        }
    }
    work();
    for (auto& helper : team) helper.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace glimpse
