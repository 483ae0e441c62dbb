// From views of an object to its surface: fuses depth maps into a volume, finds the texels of a
// UV layout, and collects the colour that the views show at points of the surface.
//
// It does not know splats, files or how the views were made. Arrays are row-major; C cameras
// (world-to-camera, OpenCV axes, pixel centres at +0.5) that share an image size H x W. Every
// output belongs to one index of a loop, so results do not depend on the number of threads.

#include <cmath>

#include "parallel.h"

namespace {

struct Views {
    int count, height, width;
    const float *viewmats, *Ks;

    // Pixel coordinates (u right, v down) and z-depth of a point; false behind the camera.
    bool project(int view, const float* p, float& u, float& v, float& z) const {
        const float *M = viewmats + 16 * view, *K = Ks + 9 * view;
        z = M[8] * p[0] + M[9] * p[1] + M[10] * p[2] + M[11];
        if (z <= 1e-6f) return false;
        u = K[0] * (M[0] * p[0] + M[1] * p[1] + M[2] * p[2] + M[3]) / z + K[2];
        v = K[4] * (M[4] * p[0] + M[5] * p[1] + M[6] * p[2] + M[7]) / z + K[5];
        return true;
    }
};

// The four pixel centres around a place in an image, and their bilinear weights.
struct Corners {
    int64_t index[4];
    float weight[4];

    // False where not all four lie in the image.
    bool find(const Views& views, int view, float u, float v) {
        u -= 0.5f, v -= 0.5f;
        if (!(u >= 0 && v >= 0 && u < float(views.width - 1) && v < float(views.height - 1)))
            return false;
        const int x = int(u), y = int(v);
        const float a = u - float(x), b = v - float(y);
        const int64_t base = (int64_t(view) * views.height + y) * views.width + x;
        index[0] = base, index[1] = base + 1;
        index[2] = base + views.width, index[3] = base + views.width + 1;
        weight[0] = (1 - a) * (1 - b), weight[1] = a * (1 - b);
        weight[2] = (1 - a) * b, weight[3] = a * b;
        return true;
    }

    float mean(const float* image) const {
        float sum = 0;
        for (int k = 0; k < 4; k++) sum += weight[k] * image[index[k]];
        return sum;
    }

    int nearest() const { return int(std::max_element(weight, weight + 4) - weight); }
};

// Depth at the place: interpolated on a smooth surface, that of the nearest pixel at an edge.
float depth_at(const Corners& at, const float* depth, float edge) {
    float low = depth[at.index[0]], high = low;
    for (int k = 1; k < 4; k++) {
        low = std::min(low, depth[at.index[k]]);
        high = std::max(high, depth[at.index[k]]);
    }
    if (low > 0 && high - low < edge) return at.mean(depth);
    return depth[at.index[at.nearest()]];
}

}  // namespace

// volume_out [G,G,G] (x, y, z): truncated signed distance, mean over the views that see a voxel, in
// units of `truncation`: 1 outside, -1 inside and where no view looks. A view whose alpha is below
// 1/2 at a voxel sees through it. depth and alpha are [C,H,W], depth 0 where there is no surface.
extern "C" int surface_fuse(int C, int H, int W, const float* depth, const float* alpha,
                            const float* viewmats, const float* Ks, int G, const float* origin,
                            float voxel, float truncation, float* volume_out) try {
    const Views views{C, H, W, viewmats, Ks};
    glimpse::parallel_for(int64_t(G) * G, G, [&](int64_t row) {
        const int i = int(row / G), j = int(row % G);
        for (int k = 0; k < G; k++) {
            const float p[3] = {origin[0] + voxel * i, origin[1] + voxel * j,
                                origin[2] + voxel * k};
            float sum = 0, seen = 0;
            for (int view = 0; view < C; view++) {
                float u, v, z;
                Corners at;
                if (!views.project(view, p, u, v, z) || !at.find(views, view, u, v)) continue;
                if (at.mean(alpha) < 0.5f) {
                    sum += 1, seen += 1;
                    continue;
                }
                const float surface = depth_at(at, depth, truncation);
                if (surface <= 0) continue;
                const float distance = surface - z;
                if (distance < -truncation) continue;  // behind a surface: this view cannot know
                sum += std::min(1.f, distance / truncation), seen += 1;
            }
            volume_out[(row * G) + k] = seen > 0 ? sum / seen : -1.f;
        }
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}

// volume_out [G,G,G]: 1 - 2 * (the smallest alpha of all views) at each voxel: below 0 in the
// visual hull. A view that does not contain the voxel says nothing.
extern "C" int surface_hull(int C, int H, int W, const float* alpha, const float* viewmats,
                            const float* Ks, int G, const float* origin, float voxel,
                            float* volume_out) try {
    const Views views{C, H, W, viewmats, Ks};
    glimpse::parallel_for(int64_t(G) * G, G, [&](int64_t row) {
        const int i = int(row / G), j = int(row % G);
        for (int k = 0; k < G; k++) {
            const float p[3] = {origin[0] + voxel * i, origin[1] + voxel * j,
                                origin[2] + voxel * k};
            float least = 1;
            for (int view = 0; view < C; view++) {
                float u, v, z;
                Corners at;
                if (views.project(view, p, u, v, z) && at.find(views, view, u, v))
                    least = std::min(least, at.mean(alpha));
            }
            volume_out[(row * G) + k] = 1 - 2 * least;
        }
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}

// The texels whose centre lies in a face. uvs [V,2] are 0..1, v down; face_out [S,S] is -1 where no
// face is, weights_out [S,S,3] the barycentric weights of its corners.
extern "C" int texture_rasterize(int64_t F, const int32_t* faces, const float* uvs, int S,
                                 int32_t* face_out, float* weights_out) try {
    std::fill_n(face_out, int64_t(S) * S, -1);
    for (int64_t f = 0; f < F; f++) {
        double x[3], y[3];
        for (int k = 0; k < 3; k++) {
            x[k] = double(uvs[2 * int64_t(faces[3 * f + k])]) * S - 0.5;
            y[k] = double(uvs[2 * int64_t(faces[3 * f + k]) + 1]) * S - 0.5;
        }
        const double area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]);
        if (std::abs(area) < 1e-12) continue;
        const int x0 = std::max(0, int(std::ceil(std::min({x[0], x[1], x[2]}))));
        const int x1 = std::min(S - 1, int(std::floor(std::max({x[0], x[1], x[2]}))));
        const int y0 = std::max(0, int(std::ceil(std::min({y[0], y[1], y[2]}))));
        const int y1 = std::min(S - 1, int(std::floor(std::max({y[0], y[1], y[2]}))));
        for (int py = y0; py <= y1; py++) {
            for (int px = x0; px <= x1; px++) {
                const double w1 =
                    ((px - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (py - y[0])) / area;
                const double w2 =
                    ((x[1] - x[0]) * (py - y[0]) - (px - x[0]) * (y[1] - y[0])) / area;
                const double w0 = 1 - w1 - w2;
                if (w0 < -1e-6 || w1 < -1e-6 || w2 < -1e-6) continue;
                const int64_t texel = int64_t(py) * S + px;
                face_out[texel] = int32_t(f);
                weights_out[3 * texel] = float(w0);
                weights_out[3 * texel + 1] = float(w1);
                weights_out[3 * texel + 2] = float(w2);
            }
        }
    }
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}

// Colours of P surface points [P,3] with normals [P,3] from images [C,H,W,3]: the mean over views
// that see the point, weighted by cos^4 of the angle they see it under. A view sees a point where
// the four pixels around it are opaque (alpha >= 0.9), none of them shows something nearer than
// the point by more than `tolerance`, and it looks at it less flat than `min_cos`. depth [C,H,W] is
// that of the surface itself. weights_out [P] is 0, and the colour black, where no view sees it.
extern "C" int surface_colors(int64_t P, const float* points, const float* normals, int C, int H,
                              int W, const float* images, const float* alpha, const float* depth,
                              const float* viewmats, const float* Ks, float tolerance,
                              float min_cos, float* colors_out, float* weights_out) try {
    const Views views{C, H, W, viewmats, Ks};
    std::vector<float> centres(3 * size_t(C));  // -R^T t
    for (int view = 0; view < C; view++) {
        const float* M = viewmats + 16 * view;
        for (int k = 0; k < 3; k++)
            centres[3 * view + k] = -(M[k] * M[3] + M[4 + k] * M[7] + M[8 + k] * M[11]);
    }
    glimpse::parallel_for(P, 4096, [&](int64_t point) {
        const float *p = points + 3 * point, *n = normals + 3 * point;
        float sum[3] = {}, total = 0;
        for (int view = 0; view < C; view++) {
            const float* eye = &centres[3 * view];
            const float d[3] = {eye[0] - p[0], eye[1] - p[1], eye[2] - p[2]};
            const float cosine = (d[0] * n[0] + d[1] * n[1] + d[2] * n[2]) /
                                 std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + 1e-20f);
            if (cosine < min_cos) continue;
            float u, v, z;
            Corners at;
            if (!views.project(view, p, u, v, z) || !at.find(views, view, u, v)) continue;
            bool seen = true;
            for (int k = 0; k < 4; k++)
                seen = seen && alpha[at.index[k]] >= 0.9f && depth[at.index[k]] >= z - tolerance;
            if (!seen) continue;
            const float weight = cosine * cosine * cosine * cosine;
            for (int k = 0; k < 4; k++)
                for (int c = 0; c < 3; c++)
                    sum[c] += weight * at.weight[k] * images[3 * at.index[k] + c];
            total += weight;
        }
        for (int c = 0; c < 3; c++) colors_out[3 * point + c] = total > 0 ? sum[c] / total : 0.f;
        weights_out[point] = total;
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}
