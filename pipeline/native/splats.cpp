// Blends screen ellipses into images, tile by tile, and takes gradients back to the ellipses.
//
// It does not know 3D: `project.cpp` makes the ellipses. Semantics are those of gsplat 1.5.3:
// alpha = min(.999, opacity * exp(-sigma)), contributions below 1/255 are skipped, a pixel stops
// before the splat that would bring its transmittance to 1e-4 or less, pixel centres at +0.5.
//
// All arrays are float32, row-major; C cameras, N splats, D channels, T tiles per camera, M pairs
// of a splat and a tile it touches. Every loop writes only to its own tile or splat and every sum
// has a fixed order, so results are bitwise the same for any number of threads.

#include <cmath>
#include <cstring>

#include "parallel.h"

namespace {

constexpr int kTile = 16;  // pixels
constexpr float kMinAlpha = 1.f / 255.f, kMaxAlpha = 0.999f, kMinTransmittance = 1e-4f;
constexpr int kCheckEvery = 32;  // splats between two looks whether all pixels of a tile are done

// GCC / clang vector types: compilers do not vectorise the backward loop by themselves.
constexpr int kLanes = 8;
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4 * kLanes), may_alias));
constexpr int kBlocks = kTile / kLanes;  // per tile row

const Lanes kZero = {};
const Lanes kRamp = {0, 1, 2, 3, 4, 5, 6, 7};

inline Lanes& lanes(float* p) { return *reinterpret_cast<Lanes*>(p); }
inline Lanes min(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes max(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes abs(Lanes a) { return max(a, -a); }
inline float sum(Lanes a) {
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

// exp(-s) for s in [0, 6] as (Taylor6(-s/8))^8: relative error 1e-6, no call into libm.
inline Lanes exp_minus(Lanes s) {
    const Lanes t = s * -0.125f;
    Lanes p = 1.f + t * (1.f / 5 + t * (1.f / 30));
    p = 1.f + t * (1.f + t * (0.5f + t * (1.f / 6) * (1.f + t * (1.f / 4) * p)));
    p = p * p, p = p * p;
    return p * p;
}

// One splat of one camera, everything the pixel loops need in 40 bytes.
struct Ellipse {
    float u, v;        // centre, pixels
    float a, b, c;     // sigma = a dx^2 + b dx dy + c dy^2
    float opacity;
    float sigma_max;   // where alpha falls to 1/255; below 0 = never visible
    float rx, ry;      // half extent of the bounding box, pixels
    float depth;
};

// Image and tile geometry, and the lists of splats per tile.
struct Frame {
    int C;
    int64_t N;
    int width, height, tiles_x, tiles_y;
    const Ellipse* ellipses;  // [C, N]
    const int64_t* offsets;   // [C * T + 1]: list of tile t is ids[offsets[t] : offsets[t + 1]]
    const int32_t* ids;       // [M] splat, front to back within a tile
    int64_t tile_count() const { return int64_t(C) * tiles_x * tiles_y; }
};

// One tile of the frame, pixels [x0, x1) x [y0, y1).
struct Tile {
    int camera, x0, y0, x1, y1;
    int64_t begin, end;
    const Ellipse* ellipses;

    Tile(const Frame& f, int64_t t) {
        const int per_camera = f.tiles_x * f.tiles_y;
        camera = int(t / per_camera);
        const int index = int(t % per_camera);
        x0 = index % f.tiles_x * kTile, y0 = index / f.tiles_x * kTile;
        x1 = std::min(f.width, x0 + kTile), y1 = std::min(f.height, y0 + kTile);
        begin = f.offsets[t], end = f.offsets[t + 1];
        ellipses = f.ellipses + camera * f.N;
    }
};

// Rows and lane blocks of a tile that an ellipse can touch, relative to the tile.
struct Reach {
    int row0, row1, block0, block1;

    Reach(const Ellipse& e, const Tile& t) {
        const float left = std::max(0.f, e.u - e.rx - t.x0), top = std::max(0.f, e.v - e.ry - t.y0);
        const float right = std::min(float(kTile), e.u + e.rx - t.x0 + 1.f);
        const float bottom = std::min(float(t.y1 - t.y0), e.v + e.ry - t.y0 + 1.f);
        row0 = int(top), row1 = int(std::max(bottom, 0.f));
        block0 = int(left) / kLanes, block1 = (int(std::max(right, 0.f)) + kLanes - 1) / kLanes;
        if (e.sigma_max < 0) row1 = row0;
    }
};

// State of the pixels of a tile during front-to-back blending. Lanes outside of the image are
// blended as well and never written out.
struct Blend {
    alignas(64) float transmittance[kTile * kTile];
    alignas(64) float live[kTile * kTile];  // 1, or 0 once the pixel has stopped
    int since_check = 0;

    Blend() { std::fill_n(transmittance, kTile * kTile, 1.f), std::fill_n(live, kTile * kTile, 1.f); }

    bool all_done(const Tile& t) {
        if (++since_check < kCheckEvery) return false;
        since_check = 0;
        float alive = 0;
        for (int y = 0; y < t.y1 - t.y0; y++)
            for (int x = 0; x < t.x1 - t.x0; x++) alive += live[y * kTile + x];
        return alive == 0;
    }
};

// Alpha before the stop rule; `raw` is opacity * exp(-sigma), before the clamp to .999.
inline Lanes alpha_of(const Ellipse& e, Lanes dx, float dy, Lanes* raw) {
    const Lanes sigma = (e.a * dx + e.b * dy) * dx + e.c * dy * dy;
    *raw = e.opacity * exp_minus(min(max(sigma, kZero), kZero + e.sigma_max));
    return ((sigma >= 0) & (sigma <= e.sigma_max)) ? min(kZero + kMaxAlpha, *raw) : kZero;
}

// Applies the stop rule and advances the transmittance. Returns the weight of the splat.
inline Lanes advance(Blend& s, int q, Lanes* alpha, Lanes* before) {
    Lanes &T = lanes(s.transmittance + q), &live = lanes(s.live + q);
    live = (T * (1.f - *alpha) > kMinTransmittance) ? live : kZero;
    *alpha *= live;
    *before = T;
    const Lanes weight = *alpha * T;
    T -= weight;
    return weight;
}

template <int D>
void forward(const Frame& f, const float* colors, const float* backgrounds, float* image,
             float* transmittance) {
    glimpse::parallel_for(f.tile_count(), 1, [&](int64_t index) {
        const Tile t(f, index);
        Blend state;
        alignas(64) float color[D][kTile * kTile] = {};
        for (int64_t i = t.begin; i < t.end && !state.all_done(t); i++) {
            const Ellipse& e = t.ellipses[f.ids[i]];
            const float* rgb = colors + (t.camera * f.N + f.ids[i]) * D;
            const Reach reach(e, t);
            for (int y = reach.row0; y < reach.row1; y++) {
                const float dy = t.y0 + y + 0.5f - e.v;
                for (int b = reach.block0; b < reach.block1; b++) {
                    const int q = y * kTile + b * kLanes;
                    Lanes raw, before;
                    Lanes alpha =
                        alpha_of(e, kRamp + (t.x0 + b * kLanes + 0.5f - e.u), dy, &raw);
                    const Lanes weight = advance(state, q, &alpha, &before);
                    for (int d = 0; d < D; d++) lanes(color[d] + q) += weight * rgb[d];
                }
            }
        }
        const float* background = backgrounds + t.camera * D;
        for (int y = t.y0; y < t.y1; y++) {
            for (int x = t.x0; x < t.x1; x++) {
                const int q = (y - t.y0) * kTile + x - t.x0;
                const int64_t pixel = (int64_t(t.camera) * f.height + y) * f.width + x;
                transmittance[pixel] = state.transmittance[q];
                for (int d = 0; d < D; d++)
                    image[pixel * D + d] = color[d][q] + state.transmittance[q] * background[d];
            }
        }
    });
}

// Layout of a gradient row: u, v, conic (3), opacity, |u|, |v|, channels (D).
constexpr int kGeometry = 8;

// Blends front to back once more. With S = sum over channels of v * (what is still to come), the
// gradient of alpha_i is T_i (v . color_i) - S_i / (1 - alpha_i): one scalar per pixel replaces
// the walk from back to front. Row rows[i] of `gradients` [M, 8 + D] belongs to pair i alone.
template <int D>
void backward(const Frame& f, const float* colors, const int64_t* rows, const float* image,
              const float* transmittance, const float* v_image, const float* v_alpha,
              float* gradients) {
    glimpse::parallel_for(f.tile_count(), 1, [&](int64_t index) {
        const Tile t(f, index);
        if (t.begin == t.end) return;
        Blend state;
        alignas(64) float v_color[D][kTile * kTile] = {}, to_come[kTile * kTile] = {};
        for (int y = t.y0; y < t.y1; y++) {
            for (int x = t.x0; x < t.x1; x++) {
                const int q = (y - t.y0) * kTile + x - t.x0;
                const int64_t pixel = (int64_t(t.camera) * f.height + y) * f.width + x;
                // The alpha image is 1 - T: a background of colour -v_alpha behind everything.
                to_come[q] = -v_alpha[pixel] * transmittance[pixel];
                for (int d = 0; d < D; d++) {
                    v_color[d][q] = v_image[pixel * D + d];
                    to_come[q] += v_image[pixel * D + d] * image[pixel * D + d];
                }
            }
        }
        bool done = false;
        for (int64_t i = t.begin; i < t.end; i++) {
            float* row = gradients + rows[i] * (kGeometry + D);
            std::fill_n(row, kGeometry + D, 0.f);
            done = done || state.all_done(t);
            const Ellipse& e = t.ellipses[f.ids[i]];
            if (done || e.sigma_max < 0) continue;
            const float* rgb = colors + (t.camera * f.N + f.ids[i]) * D;
            const Reach reach(e, t);
            Lanes g_o = kZero, g_u = kZero, g_v = kZero, g_abs_u = kZero, g_abs_v = kZero;
            Lanes g_xx = kZero, g_xy = kZero, g_yy = kZero, g_rgb[D];
            for (int d = 0; d < D; d++) g_rgb[d] = kZero;
            for (int b = reach.block0; b < reach.block1; b++) {
                const Lanes dx = kRamp + (t.x0 + b * kLanes + 0.5f - e.u);
                for (int y = reach.row0; y < reach.row1; y++) {
                    const float dy = t.y0 + y + 0.5f - e.v;
                    const int q = y * kTile + b * kLanes;
                    Lanes raw, before;
                    Lanes alpha = alpha_of(e, dx, dy, &raw);
                    const Lanes weight = advance(state, q, &alpha, &before);
                    Lanes dot = kZero;
                    for (int d = 0; d < D; d++) {
                        const Lanes v = lanes(v_color[d] + q);
                        dot += v * rgb[d];
                        g_rgb[d] += weight * v;
                    }
                    const Lanes rest = lanes(to_come + q) - weight * dot;
                    lanes(to_come + q) = rest;
                    // dL/dsigma with the sign turned; no gradient through the clamp.
                    Lanes s = (dot * before - rest / (1.f - alpha)) * alpha;
                    s = (raw <= kMaxAlpha) ? s : kZero;
                    const Lanes s_u = s * (2 * e.a * dx + e.b * dy);
                    const Lanes s_v = s * (e.b * dx + 2 * e.c * dy);
                    g_o += s;
                    g_u += s_u, g_v += s_v, g_abs_u += abs(s_u), g_abs_v += abs(s_v);
                    g_xx += s * dx * dx, g_xy += s * dx * dy, g_yy += s * (dy * dy);
                }
            }
            row[0] = sum(g_u), row[1] = sum(g_v);
            row[2] = -0.5f * sum(g_xx), row[3] = -sum(g_xy), row[4] = -0.5f * sum(g_yy);
            row[5] = sum(g_o) / e.opacity;
            row[6] = sum(g_abs_u), row[7] = sum(g_abs_v);
            for (int d = 0; d < D; d++) row[kGeometry + d] = sum(g_rgb[d]);
        }
    });
}

// Sums the gradient rows of each splat, starts[k] to starts[k + 1] for k = camera * N + splat.
void gather(int64_t count, int D, const int64_t* starts, const float* gradients, float* v_means2d,
            float* v_conics, float* v_opacities, float* v_absolute, float* v_colors) {
    glimpse::parallel_for(count, 2048, [&](int64_t k) {
        float total[kGeometry] = {};
        float* v_color = v_colors + k * D;
        std::fill_n(v_color, D, 0.f);
        for (int64_t r = starts[k]; r < starts[k + 1]; r++) {
            const float* row = gradients + r * (kGeometry + D);
            for (int j = 0; j < kGeometry; j++) total[j] += row[j];
            for (int d = 0; d < D; d++) v_color[d] += row[kGeometry + d];
        }
        v_means2d[2 * k] = total[0], v_means2d[2 * k + 1] = total[1];
        v_conics[3 * k] = total[2], v_conics[3 * k + 1] = total[3], v_conics[3 * k + 2] = total[4];
        v_opacities[k] = total[5];
        v_absolute[2 * k] = total[6], v_absolute[2 * k + 1] = total[7];
    });
}

Frame frame_of(int C, int64_t N, int width, int height, const float* ellipses,
               const int64_t* offsets, const int32_t* ids) {
    return {C, N, width, height, (width + kTile - 1) / kTile, (height + kTile - 1) / kTile,
            reinterpret_cast<const Ellipse*>(ellipses), offsets, ids};
}

}  // namespace

extern "C" {

// Tiles are kTile x kTile pixels; the caller sizes `offsets` with it.
int splats_tile_size() { return kTile; }

// Packs ellipses [C,N,10] (see Ellipse).
int splats_pack(int64_t count, const float* means2d, const float* conics, const float* opacities,
                const float* depths, const int32_t* radii, float* ellipses) try {
    static_assert(sizeof(Ellipse) == 10 * sizeof(float), "layout is part of the interface");
    glimpse::parallel_for(count, 4096, [&](int64_t k) {
        const bool visible = radii[2 * k] > 0 && opacities[k] >= kMinAlpha;
        // exp_minus is exact up to 6; ln 255 = 5.54 for opacity 1.
        const float sigma_max = visible ? std::min(5.6f, std::log(opacities[k] * 255.f)) : -1.f;
        const Ellipse e{means2d[2 * k], means2d[2 * k + 1], 0.5f * conics[3 * k],
                        conics[3 * k + 1], 0.5f * conics[3 * k + 2], opacities[k], sigma_max,
                        float(radii[2 * k]), float(radii[2 * k + 1]), depths[k]};
        std::memcpy(ellipses + 10 * k, &e, sizeof(e));
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}

int splats_forward(int C, int64_t N, int D, int width, int height, const float* ellipses,
                   const int64_t* offsets, const int32_t* ids, const float* colors,
                   const float* backgrounds, float* image, float* transmittance) try {
    const Frame f = frame_of(C, N, width, height, ellipses, offsets, ids);
    switch (D) {
        case 1: forward<1>(f, colors, backgrounds, image, transmittance); return glimpse::kOk;
        case 3: forward<3>(f, colors, backgrounds, image, transmittance); return glimpse::kOk;
        case 4: forward<4>(f, colors, backgrounds, image, transmittance); return glimpse::kOk;
        case 8: forward<8>(f, colors, backgrounds, image, transmittance); return glimpse::kOk;
        case 32: forward<32>(f, colors, backgrounds, image, transmittance); return glimpse::kOk;
        default: return glimpse::kUnsupported;
    }
} catch (...) {
    return glimpse::status_of_exception();
}

int splats_backward(int C, int64_t N, int D, int width, int height, const float* ellipses,
                    const int64_t* offsets, const int32_t* ids, const int64_t* rows,
                    const int64_t* starts, const float* colors, const float* image,
                    const float* transmittance, const float* v_image, const float* v_alpha,
                    float* gradients, float* v_means2d, float* v_conics, float* v_opacities,
                    float* v_absolute, float* v_colors) try {
    const Frame f = frame_of(C, N, width, height, ellipses, offsets, ids);
    const auto run = [&](auto pass) {
        pass(f, colors, rows, image, transmittance, v_image, v_alpha, gradients);
        gather(C * N, D, starts, gradients, v_means2d, v_conics, v_opacities, v_absolute, v_colors);
        return glimpse::kOk;
    };
    switch (D) {
        case 1: return run(backward<1>);
        case 3: return run(backward<3>);
        case 4: return run(backward<4>);
        case 8: return run(backward<8>);
        case 32: return run(backward<32>);
        default: return glimpse::kUnsupported;
    }
} catch (...) {
    return glimpse::status_of_exception();
}

// Depth [C,H,W] of the splat at which the transmittance falls to 1/2, 0 where it does not.
int splats_median_depth(int C, int64_t N, int width, int height, const float* ellipses,
                        const int64_t* offsets, const int32_t* ids, float* depth) try {
    const Frame f = frame_of(C, N, width, height, ellipses, offsets, ids);
    glimpse::parallel_for(f.tile_count(), 1, [&](int64_t index) {
        const Tile t(f, index);
        Blend state;
        alignas(64) float median[kTile * kTile] = {};
        for (int64_t i = t.begin; i < t.end && !state.all_done(t); i++) {
            const Ellipse& e = t.ellipses[f.ids[i]];
            const Reach reach(e, t);
            for (int y = reach.row0; y < reach.row1; y++) {
                for (int b = reach.block0; b < reach.block1; b++) {
                    const int q = y * kTile + b * kLanes;
                    Lanes raw, before;
                    Lanes alpha = alpha_of(e, kRamp + (t.x0 + b * kLanes + 0.5f - e.u),
                                           t.y0 + y + 0.5f - e.v, &raw);
                    advance(state, q, &alpha, &before);
                    const Lanes after = lanes(state.transmittance + q);
                    Lanes& m = lanes(median + q);
                    m = ((before > 0.5f) & (after <= 0.5f)) ? kZero + e.depth : m;
                }
            }
        }
        for (int y = t.y0; y < t.y1; y++)
            std::memcpy(depth + (int64_t(t.camera) * f.height + y) * f.width + t.x0,
                        median + (y - t.y0) * kTile, sizeof(float) * (t.x1 - t.x0));
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}

}  // extern "C"
