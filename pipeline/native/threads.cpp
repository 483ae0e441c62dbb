// The number of threads of this library, shared by all its loops.

#include "parallel.h"

namespace {
std::atomic<int> g_threads{1};
}

int glimpse::thread_count() { return g_threads.load(std::memory_order_relaxed); }

extern "C" void glimpse_set_threads(int count) { g_threads.store(std::max(count, 1)); }
