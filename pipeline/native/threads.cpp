// What all loops of this library share: the number of threads, and how failures are named.

#include <new>
#include <stdexcept>

#include "parallel.h"

namespace {
std::atomic<int> g_threads{1};
}

int glimpse::thread_count() { return g_threads.load(std::memory_order_relaxed); }

int glimpse::status_of_exception() noexcept {
    try {
        throw;
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    } catch (const std::length_error&) {
        return kOutOfMemory;  // a vector longer than any memory
    } catch (...) {
        return kUnsupported;
    }
}

extern "C" void glimpse_set_threads(int count) { g_threads.store(std::max(count, 1)); }
