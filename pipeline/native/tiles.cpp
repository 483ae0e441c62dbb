// Sorts splats front to back and lists them per tile.
//
// It does not know what is drawn. One sort per camera and a counting sort into tiles in that
// order replace the 64-bit keys (tile, depth) that GPU rasterisers sort. C cameras, N splats,
// T tiles per camera, M pairs of a splat and a tile that its bounding box touches.

#include <cmath>
#include <cstring>

#include "parallel.h"

namespace {

struct Box {
    int x0, x1, y0, y1;  // tiles, half open
    int64_t count() const { return int64_t(x1 - x0) * (y1 - y0); }
};

Box box_of(const float* mean2d, const int32_t* radius, int tile, int tiles_x, int tiles_y) {
    if (radius[0] <= 0) return {0, 0, 0, 0};
    const auto clamp = [](float value, int limit) {
        return int(std::min(float(limit), std::max(0.f, value)));
    };
    const float size = float(tile);
    return {clamp(std::floor((mean2d[0] - radius[0]) / size), tiles_x),
            clamp(std::ceil((mean2d[0] + radius[0]) / size), tiles_x),
            clamp(std::floor((mean2d[1] - radius[1]) / size), tiles_y),
            clamp(std::ceil((mean2d[1] + radius[1]) / size), tiles_y)};
}

// Visible splats front to back, ties in input order. Radix sort of the bits of the depth, which
// order like the numbers themselves because visible depths are positive.
std::vector<int32_t> front_to_back(int64_t N, const float* depths, const int32_t* radii) {
    struct Item {
        uint32_t key;
        int32_t id;
    };
    std::vector<Item> items, sorted;
    items.reserve(N);
    for (int64_t n = 0; n < N; n++) {
        if (radii[2 * n] <= 0) continue;
        Item item{0, int32_t(n)};
        std::memcpy(&item.key, depths + n, sizeof(item.key));
        items.push_back(item);
    }
    sorted.resize(items.size());
    for (int shift = 0; shift < 32; shift += 11) {
        int64_t starts[2049] = {};
        for (const Item& item : items) starts[(item.key >> shift & 2047) + 1]++;
        for (int i = 0; i < 2048; i++) starts[i + 1] += starts[i];
        for (const Item& item : items) sorted[starts[item.key >> shift & 2047]++] = item;
        items.swap(sorted);
    }
    std::vector<int32_t> order(items.size());
    for (size_t i = 0; i < items.size(); i++) order[i] = items[i].id;
    return order;
}

}  // namespace

// Fills starts int64 [C*N+1] (where the pairs of splat k = camera * N + splat begin) and offsets
// int64 [C*T+1] (where the list of a tile begins). Returns M.
extern "C" int64_t splats_count_pairs(int C, int64_t N, int tile, int tiles_x, int tiles_y,
                                      const float* means2d, const int32_t* radii, int64_t* starts,
                                      int64_t* offsets) {
    const int64_t T = int64_t(tiles_x) * tiles_y;
    std::fill_n(offsets, C * T + 1, 0);
    starts[0] = 0;
    for (int64_t k = 0; k < C * N; k++) {
        const Box box = box_of(means2d + 2 * k, radii + 2 * k, tile, tiles_x, tiles_y);
        starts[k + 1] = starts[k] + box.count();
        int64_t* counts = offsets + k / N * T + 1;
        for (int y = box.y0; y < box.y1; y++)
            for (int x = box.x0; x < box.x1; x++) counts[y * tiles_x + x]++;
    }
    for (int64_t t = 0; t < C * T; t++) offsets[t + 1] += offsets[t];
    return starts[C * N];
}

// Fills, per pair in tile order, ids int32 [M] (splat) and rows int64 [M] (place of the pair when
// counted splat by splat: the tiles of one splat have consecutive rows).
extern "C" int splats_list_pairs(int C, int64_t N, int tile, int tiles_x, int tiles_y,
                                 const float* means2d, const int32_t* radii, const float* depths,
                                 const int64_t* starts, const int64_t* offsets, int32_t* ids,
                                 int64_t* rows) try {
    const int64_t T = int64_t(tiles_x) * tiles_y;
    glimpse::parallel_for(C, 1, [&](int64_t c) {
        std::vector<int64_t> next(offsets + c * T, offsets + (c + 1) * T);
        for (const int32_t n : front_to_back(N, depths + c * N, radii + 2 * c * N)) {
            const int64_t k = c * N + n;
            const Box box = box_of(means2d + 2 * k, radii + 2 * k, tile, tiles_x, tiles_y);
            int64_t row = starts[k];
            for (int y = box.y0; y < box.y1; y++) {
                for (int x = box.x0; x < box.x1; x++) {
                    const int64_t place = next[y * tiles_x + x]++;
                    ids[place] = n, rows[place] = row++;
                }
            }
        }
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}
