// Draws triangles with vertex attributes into images: z-buffer, perspective-correct, supersampled.
//
// It does not know textures, lights or gradients. Arrays are row-major; C cameras (world-to-camera,
// OpenCV axes), V vertices, F faces, A attributes. Cameras are drawn independently, each by one
// thread, so results do not depend on the number of threads.

#include <cmath>

#include "parallel.h"

namespace {

// Sample positions are whole numbers on a grid of 1/256 of a sample, so that edge functions are
// exact integers: two triangles with a common edge cover each sample exactly once.
constexpr int kSubpixel = 256;

struct Point {
    int64_t x, y;  // subsample units
    double iz;     // 1 / z-depth: linear on the screen
};

struct CameraVertex {
    double x, y, z;  // camera axes
    double weights[3];  // of the vertices of the face it was cut from
};

// Twice the signed area of (a, b, p), positive on one side of the edge a -> b.
int64_t edge(const Point& a, const Point& b, int64_t x, int64_t y) {
    return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
}

// Samples on an edge belong to the triangle that has it as a top or left edge (y down, the
// inside where edge() is positive).
bool owns(const Point& a, const Point& b) {
    return b.y < a.y || (b.y == a.y && b.x > a.x);
}

// Sutherland-Hodgman against z = near_plane; a triangle becomes up to four corners.
int clip_near(const CameraVertex* in, double near_plane, CameraVertex* out) {
    int count = 0;
    for (int i = 0; i < 3; i++) {
        const CameraVertex &a = in[i], &b = in[(i + 1) % 3];
        if (a.z >= near_plane) out[count++] = a;
        if ((a.z >= near_plane) != (b.z >= near_plane)) {
            // Always from the nearer corner, so that both faces of an edge cut it equally.
            const CameraVertex &n = a.z < b.z ? a : b, &f = a.z < b.z ? b : a;
            const double t = (near_plane - n.z) / (f.z - n.z);
            CameraVertex& cut = out[count++];
            cut = {n.x + t * (f.x - n.x), n.y + t * (f.y - n.y), near_plane, {}};
            for (int k = 0; k < 3; k++)
                cut.weights[k] = n.weights[k] + t * (f.weights[k] - n.weights[k]);
        }
    }
    return count;
}

// One camera's samples: what is nearest at each.
struct Samples {
    int width, height;
    std::vector<float> depth;        // z-depth, infinity where nothing is
    std::vector<int32_t> face;       // -1 where nothing is
    std::vector<float> weights;      // perspective-correct, of the first two vertices of the face

    Samples(int w, int h)
        : width(w), height(h), depth(size_t(w) * h, 1e30f), face(size_t(w) * h, -1),
          weights(size_t(w) * h * 2) {}

    void draw(const CameraVertex* corners, const Point* p, int32_t id) {
        int i0 = 0, i1 = 1, i2 = 2;
        int64_t area = edge(p[0], p[1], p[2].x, p[2].y);
        if (area == 0) return;
        if (area < 0) std::swap(i1, i2), area = -area;  // no culling: both windings are drawn
        const Point &a = p[i0], &b = p[i1], &c = p[i2];
        const int64_t half = kSubpixel / 2;
        const auto first = [&](int64_t v) {  // first sample whose centre is at or after v
            return int64_t(std::ceil(double(v - half) / kSubpixel));
        };
        const auto last = [&](int64_t v) { return int64_t(std::floor(double(v - half) / kSubpixel)); };
        const int64_t x0 = std::max<int64_t>(0, first(std::min({a.x, b.x, c.x})));
        const int64_t x1 = std::min<int64_t>(width - 1, last(std::max({a.x, b.x, c.x})));
        const int64_t y0 = std::max<int64_t>(0, first(std::min({a.y, b.y, c.y})));
        const int64_t y1 = std::min<int64_t>(height - 1, last(std::max({a.y, b.y, c.y})));
        const bool own_a = owns(b, c), own_b = owns(c, a), own_c = owns(a, b);
        const int64_t step_a = -(c.y - b.y) * kSubpixel, step_b = -(a.y - c.y) * kSubpixel,
                      step_c = -(b.y - a.y) * kSubpixel;
        for (int64_t y = y0; y <= y1; y++) {
            const int64_t sx = x0 * kSubpixel + half, sy = y * kSubpixel + half;
            int64_t ea = edge(b, c, sx, sy), eb = edge(c, a, sx, sy), ec = edge(a, b, sx, sy);
            for (int64_t x = x0; x <= x1; x++, ea += step_a, eb += step_b, ec += step_c) {
                if (ea < 0 || eb < 0 || ec < 0) continue;
                if ((ea == 0 && !own_a) || (eb == 0 && !own_b) || (ec == 0 && !own_c)) continue;
                const double la = double(ea) / area * a.iz, lb = double(eb) / area * b.iz,
                             lc = double(ec) / area * c.iz;
                const double z = 1.0 / (la + lb + lc);
                const size_t s = size_t(y) * width + x;
                if (float(z) >= depth[s]) continue;  // the first face wins a tie
                depth[s] = float(z);
                face[s] = id;
                for (int k = 0; k < 2; k++)
                    weights[2 * s + k] = float(z * (la * corners[i0].weights[k] +
                                                    lb * corners[i1].weights[k] +
                                                    lc * corners[i2].weights[k]));
            }
        }
    }
};

}  // namespace

// attributes_out [C,H,W,A] and depth_out [C,H,W] are means over the covered samples of a pixel,
// coverage_out [C,H,W] their share; all 0 where nothing is covered.
extern "C" int mesh_rasterize(int C, int64_t V, int64_t F, int A, const float* vertices,
                              const int32_t* faces, const float* attributes,
                              const float* viewmats, const float* Ks, int width, int height,
                              int supersample, float near_plane, float* attributes_out,
                              float* coverage_out, float* depth_out) try {
    // Positions are cut off this many pixels from the image (2^18 or more), so that coordinates
    // stay below 2^29 and the edge functions below 2^62.
    const double unit = double(supersample) * kSubpixel, limit = (1 << 29) / unit;
    glimpse::parallel_for(C, 1, [&](int64_t camera) {
        const float *M = viewmats + 16 * camera, *K = Ks + 9 * camera;
        std::vector<CameraVertex> seen(V);
        for (int64_t v = 0; v < V; v++) {
            const float* p = vertices + 3 * v;
            double q[3];
            for (int i = 0; i < 3; i++)
                q[i] = double(M[4 * i]) * p[0] + double(M[4 * i + 1]) * p[1] +
                       double(M[4 * i + 2]) * p[2] + double(M[4 * i + 3]);
            seen[v] = {q[0], q[1], q[2], {}};
        }
        Samples samples(width * supersample, height * supersample);
        for (int64_t f = 0; f < F; f++) {
            CameraVertex corners[3], clipped[4];
            for (int k = 0; k < 3; k++) {
                corners[k] = seen[faces[3 * f + k]];
                corners[k].weights[k] = 1;
            }
            const int count = clip_near(corners, near_plane, clipped);
            Point points[4];
            for (int k = 0; k < count; k++) {
                const CameraVertex& c = clipped[k];
                const double x = K[0] * c.x / c.z + K[2], y = K[4] * c.y / c.z + K[5];
                points[k] = {std::llround(std::clamp(x, -limit, limit) * unit),
                             std::llround(std::clamp(y, -limit, limit) * unit), 1.0 / c.z};
            }
            for (int k = 2; k < count; k++) {
                const CameraVertex fan[3] = {clipped[0], clipped[k - 1], clipped[k]};
                const Point fan_points[3] = {points[0], points[k - 1], points[k]};
                samples.draw(fan, fan_points, int32_t(f));
            }
        }

        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                const int64_t pixel = (camera * height + y) * width + x;
                float* out = attributes_out + pixel * A;
                std::fill_n(out, A, 0.f);
                int covered = 0;
                double depth = 0;
                for (int j = 0; j < supersample * supersample; j++) {
                    const size_t s = size_t(y * supersample + j / supersample) * samples.width +
                                     x * supersample + j % supersample;
                    const int32_t f = samples.face[s];
                    if (f < 0) continue;
                    covered++;
                    depth += samples.depth[s];
                    const float w0 = samples.weights[2 * s], w1 = samples.weights[2 * s + 1];
                    const float* a0 = attributes + int64_t(faces[3 * int64_t(f)]) * A;
                    const float* a1 = attributes + int64_t(faces[3 * int64_t(f) + 1]) * A;
                    const float* a2 = attributes + int64_t(faces[3 * int64_t(f) + 2]) * A;
                    for (int k = 0; k < A; k++)
                        out[k] += w0 * a0[k] + w1 * a1[k] + (1 - w0 - w1) * a2[k];
                }
                const float share = covered ? 1.f / covered : 0.f;
                for (int k = 0; k < A; k++) out[k] *= share;
                coverage_out[pixel] = float(covered) / (supersample * supersample);
                depth_out[pixel] = float(depth * share);
            }
        }
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}
