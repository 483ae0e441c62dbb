// Projects 3D Gaussians to screen ellipses (EWA splatting) and takes gradients back.
//
// It does not know images, tiles or colours. Formulas: Zwicker et al. 2002, as used by 3DGS
// (arXiv 2308.04079) and gsplat 1.5.3, whose constants are kept. All arrays are float32,
// row-major; C cameras, N splats; viewmats are world-to-camera with OpenCV axes.

#include <cmath>

#include "parallel.h"

namespace {

constexpr float kMinAlpha = 1.f / 255.f;  // fainter contributions are skipped
constexpr float kMaxExtent = 3.33f;       // standard deviations at which alpha 1 falls to 1/255
constexpr float kMaxDeterminant = 1e37f;  // pixels^4
constexpr float kMaxRadius = 1e6f;        // keeps float -> int conversions defined

struct Vec3 {
    float x, y, z;
};

struct Mat3 {
    float m[3][3];
    const float* operator[](int i) const { return m[i]; }
    float* operator[](int i) { return m[i]; }
};

struct Camera {
    Mat3 R;
    Vec3 t;
    float fx, fy, cx, cy;
    // x/z and y/z are clamped to these in the Jacobian only, 15 % outside of the image:
    // the linearisation explodes for splats far outside of the field of view.
    float lo_x, hi_x, lo_y, hi_y;

    Camera(const float* viewmat, const float* K, int width, int height)
        : t{viewmat[3], viewmat[7], viewmat[11]}, fx(K[0]), fy(K[4]), cx(K[2]), cy(K[5]) {
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) R[i][j] = viewmat[4 * i + j];
        const float margin_x = 0.15f * width / fx, margin_y = 0.15f * height / fy;
        lo_x = -(cx / fx + margin_x), hi_x = (width - cx) / fx + margin_x;
        lo_y = -(cy / fy + margin_y), hi_y = (height - cy) / fy + margin_y;
    }

    Vec3 to_camera(const float* p) const {
        return {R[0][0] * p[0] + R[0][1] * p[1] + R[0][2] * p[2] + t.x,
                R[1][0] * p[0] + R[1][1] * p[1] + R[1][2] * p[2] + t.y,
                R[2][0] * p[0] + R[2][1] * p[1] + R[2][2] * p[2] + t.z};
    }
};

struct Quat {
    float w, x, y, z, inverse_norm;

    explicit Quat(const float* q) {
        inverse_norm =
            1.f / std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3] + 1e-30f);
        w = q[0] * inverse_norm, x = q[1] * inverse_norm;
        y = q[2] * inverse_norm, z = q[3] * inverse_norm;
    }

    Mat3 rotation() const {
        return {{{1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)},
                 {2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)},
                 {2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)}}};
    }

    // Gradient of the unnormalised quaternion from that of the rotation matrix.
    void backward(const Mat3& g, float* out) const {
        const float dw =
            2 * (x * (g[2][1] - g[1][2]) + y * (g[0][2] - g[2][0]) + z * (g[1][0] - g[0][1]));
        const float dx = 2 * (-2 * x * (g[1][1] + g[2][2]) + y * (g[1][0] + g[0][1]) +
                              z * (g[2][0] + g[0][2]) + w * (g[2][1] - g[1][2]));
        const float dy = 2 * (x * (g[1][0] + g[0][1]) - 2 * y * (g[0][0] + g[2][2]) +
                              z * (g[2][1] + g[1][2]) + w * (g[0][2] - g[2][0]));
        const float dz = 2 * (x * (g[2][0] + g[0][2]) + y * (g[2][1] + g[1][2]) -
                              2 * z * (g[0][0] + g[1][1]) + w * (g[1][0] - g[0][1]));
        const float along = dw * w + dx * x + dy * y + dz * z;  // the norm does not matter
        out[0] = (dw - along * w) * inverse_norm, out[1] = (dx - along * x) * inverse_norm;
        out[2] = (dy - along * y) * inverse_norm, out[3] = (dz - along * z) * inverse_norm;
    }
};

Mat3 times(const Mat3& a, const Mat3& b) {
    Mat3 c;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            c[i][j] = a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j];
    return c;
}

// A splat as one camera sees it: the square root of its covariance before and after projection.
struct Footprint {
    Vec3 p;                      // mean in camera axes
    float inverse_z;
    float slope_x, slope_y;      // p.x/p.z and p.y/p.z, clamped
    bool clamped_x, clamped_y;
    float j00, j02, j11, j12;    // Jacobian of the projection (j01 = j10 = 0)
    Mat3 A;                      // R_camera * R_splat * diag(scale)
    float B[2][3];               // J * A
    float xx, xy, yy, det;       // covariance B * B^T in pixels^2 and its determinant
    float blurred_xx, blurred_yy, blurred_det;

    Footprint(const Camera& cam, const Vec3& in_camera, const Mat3& M, float eps2d)
        : p(in_camera), inverse_z(1.f / in_camera.z), A(times(cam.R, M)) {
        const float sx = p.x * inverse_z, sy = p.y * inverse_z;
        slope_x = std::min(cam.hi_x, std::max(cam.lo_x, sx));
        slope_y = std::min(cam.hi_y, std::max(cam.lo_y, sy));
        clamped_x = slope_x != sx, clamped_y = slope_y != sy;
        j00 = cam.fx * inverse_z, j02 = -cam.fx * slope_x * inverse_z;
        j11 = cam.fy * inverse_z, j12 = -cam.fy * slope_y * inverse_z;
        for (int k = 0; k < 3; k++) {
            B[0][k] = j00 * A[0][k] + j02 * A[2][k];
            B[1][k] = j11 * A[1][k] + j12 * A[2][k];
        }
        xx = B[0][0] * B[0][0] + B[0][1] * B[0][1] + B[0][2] * B[0][2];
        xy = B[0][0] * B[1][0] + B[0][1] * B[1][1] + B[0][2] * B[1][2];
        yy = B[1][0] * B[1][0] + B[1][1] * B[1][1] + B[1][2] * B[1][2];
        // |b0 x b1|^2 instead of xx*yy - xy^2: no cancellation for needles.
        const float n0 = B[0][1] * B[1][2] - B[0][2] * B[1][1];
        const float n1 = B[0][2] * B[1][0] - B[0][0] * B[1][2];
        const float n2 = B[0][0] * B[1][1] - B[0][1] * B[1][0];
        det = n0 * n0 + n1 * n1 + n2 * n2;
        blurred_xx = xx + eps2d, blurred_yy = yy + eps2d;
        // Splats as large as the interface allows, right in front of the camera, would overflow.
        det = std::min(det, kMaxDeterminant);
        blurred_det = det + eps2d * (xx + yy) + eps2d * eps2d;
        blurred_det = std::min(std::max(blurred_det, 1e-20f), kMaxDeterminant);
    }

    // Opacity factor of the antialiased mode: the blur of eps2d must not add light.
    float compensation() const { return std::sqrt(det / blurred_det); }
};

Mat3 scaled_rotation(const Mat3& R, const float* scale) {
    Mat3 M;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) M[i][k] = R[i][k] * scale[k];
    return M;
}

}  // namespace

// radii int32 [C,N,2] (0,0 = not visible), means2d [C,N,2], depths [C,N], conics [C,N,3] (inverse
// blurred covariance xx, xy, yy), compensations [C,N]. `opacities` [N] only shrinks the radii.
extern "C" int splats_project(int C, int64_t N, const float* means, const float* quats,
                              const float* scales, const float* opacities, const float* viewmats,
                              const float* Ks, int width, int height, float eps2d, float near_plane,
                              float far_plane, float radius_clip, int antialiased, int32_t* radii,
                              float* means2d, float* depths, float* conics,
                              float* compensations) try {
    std::vector<Camera> cameras;
    for (int c = 0; c < C; c++)
        cameras.emplace_back(viewmats + 16 * c, Ks + 9 * c, width, height);
    glimpse::parallel_for(N, 1024, [&](int64_t n) {
        const Mat3 M = scaled_rotation(Quat(quats + 4 * n).rotation(), scales + 3 * n);
        for (int c = 0; c < C; c++) {
            const int64_t k = c * N + n;
            const Camera& cam = cameras[c];
            radii[2 * k] = radii[2 * k + 1] = 0;
            means2d[2 * k] = means2d[2 * k + 1] = 0;
            conics[3 * k] = conics[3 * k + 1] = conics[3 * k + 2] = 0;
            compensations[k] = 0;
            const Vec3 p = cam.to_camera(means + 3 * n);
            depths[k] = p.z;
            if (p.z < near_plane || p.z > far_plane) continue;

            const Footprint f(cam, p, M, eps2d);
            const float inverse_det = 1.f / f.blurred_det;
            const float u = cam.fx * p.x * f.inverse_z + cam.cx;
            const float v = cam.fy * p.y * f.inverse_z + cam.cy;
            means2d[2 * k] = u, means2d[2 * k + 1] = v;
            conics[3 * k] = f.blurred_yy * inverse_det;
            conics[3 * k + 1] = -f.xy * inverse_det;
            conics[3 * k + 2] = f.blurred_xx * inverse_det;
            compensations[k] = f.compensation();

            const float opacity = opacities[n] * (antialiased ? compensations[k] : 1.f);
            if (opacity < kMinAlpha) continue;
            // arXiv 2402.00525, B.2: a faint splat ends where its alpha falls to 1/255.
            const float extent = std::min(kMaxExtent, std::sqrt(2.f * std::log(opacity * 255.f)));
            const float rx = std::min(kMaxRadius, std::ceil(extent * std::sqrt(f.blurred_xx)));
            const float ry = std::min(kMaxRadius, std::ceil(extent * std::sqrt(f.blurred_yy)));
            if (rx <= radius_clip && ry <= radius_clip) continue;
            if (u + rx <= 0 || u - rx >= width || v + ry <= 0 || v - ry >= height) continue;
            radii[2 * k] = static_cast<int32_t>(rx), radii[2 * k + 1] = static_cast<int32_t>(ry);
        }
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}

// Takes the gradients of means2d, depths, conics and compensations to means, quats and scales,
// summed over the cameras in their order.
extern "C" int splats_project_backward(int C, int64_t N, const float* means, const float* quats,
                                       const float* scales, const float* viewmats, const float* Ks,
                                       int width, int height, float eps2d, const int32_t* radii,
                                       const float* conics, const float* v_means2d,
                                       const float* v_depths, const float* v_conics,
                                       const float* v_compensations, float* v_means,
                                       float* v_quats, float* v_scales) try {
    std::vector<Camera> cameras;
    for (int c = 0; c < C; c++)
        cameras.emplace_back(viewmats + 16 * c, Ks + 9 * c, width, height);
    glimpse::parallel_for(N, 1024, [&](int64_t n) {
        const Quat quat(quats + 4 * n);
        const Mat3 R = quat.rotation();
        const Mat3 M = scaled_rotation(R, scales + 3 * n);
        Vec3 v_mean{0, 0, 0};
        Mat3 v_M{};
        for (int c = 0; c < C; c++) {
            const int64_t k = c * N + n;
            if (radii[2 * k] <= 0) continue;
            const Camera& cam = cameras[c];
            const Footprint f(cam, cam.to_camera(means + 3 * n), M, eps2d);
            const float iz = f.inverse_z;

            // conic P = covariance^-1, so dL/dcovariance = -P (dL/dP) P; symmetric, the two
            // off-diagonal elements share the gradient.
            const float p0 = conics[3 * k], p1 = conics[3 * k + 1], p2 = conics[3 * k + 2];
            const float g0 = v_conics[3 * k], g1 = 0.5f * v_conics[3 * k + 1],
                        g2 = v_conics[3 * k + 2];
            const float q00 = p0 * g0 + p1 * g1, q01 = p0 * g1 + p1 * g2;
            const float q10 = p1 * g0 + p2 * g1, q11 = p1 * g1 + p2 * g2;
            float v_xx = -(q00 * p0 + q01 * p1), v_xy = -(q00 * p1 + q01 * p2);
            float v_yy = -(q10 * p1 + q11 * p2);
            const float v_comp = v_compensations ? v_compensations[k] : 0.f;
            const float comp = f.compensation();
            if (v_comp != 0.f && comp > 1e-8f) {
                const float ratio = f.det / f.blurred_det;
                const float scale = 0.5f * v_comp / (comp * f.blurred_det);
                v_xx += scale * (f.yy - ratio * f.blurred_yy);
                v_yy += scale * (f.xx - ratio * f.blurred_xx);
                v_xy += scale * (ratio - 1.f) * f.xy;
            }

            float v_B[2][3], v_j00 = 0, v_j02 = 0, v_j11 = 0, v_j12 = 0;
            Mat3 v_A;
            for (int i = 0; i < 3; i++) {
                v_B[0][i] = 2 * (v_xx * f.B[0][i] + v_xy * f.B[1][i]);
                v_B[1][i] = 2 * (v_xy * f.B[0][i] + v_yy * f.B[1][i]);
                v_j00 += v_B[0][i] * f.A[0][i], v_j02 += v_B[0][i] * f.A[2][i];
                v_j11 += v_B[1][i] * f.A[1][i], v_j12 += v_B[1][i] * f.A[2][i];
                v_A[0][i] = f.j00 * v_B[0][i];
                v_A[1][i] = f.j11 * v_B[1][i];
                v_A[2][i] = f.j02 * v_B[0][i] + f.j12 * v_B[1][i];
            }
            for (int i = 0; i < 3; i++)
                for (int j = 0; j < 3; j++)
                    v_M[i][j] += cam.R[0][i] * v_A[0][j] + cam.R[1][i] * v_A[1][j] +
                                 cam.R[2][i] * v_A[2][j];

            const float v_u = v_means2d[2 * k], v_v = v_means2d[2 * k + 1];
            float v_x = f.j00 * v_u, v_y = f.j11 * v_v, v_z = v_depths[k];
            v_z -= (cam.fx * f.p.x * v_u + cam.fy * f.p.y * v_v) * iz * iz;
            // j00 = fx / z and j02 = -fx * slope_x / z, with slope_x = x / z unless clamped.
            v_z -= (f.j00 * v_j00 + f.j11 * v_j11 + f.j02 * v_j02 + f.j12 * v_j12) * iz;
            const float v_slope_x = -f.j00 * v_j02, v_slope_y = -f.j11 * v_j12;
            if (!f.clamped_x) v_x += v_slope_x * iz, v_z -= v_slope_x * f.slope_x * iz;
            if (!f.clamped_y) v_y += v_slope_y * iz, v_z -= v_slope_y * f.slope_y * iz;
            v_mean.x += cam.R[0][0] * v_x + cam.R[1][0] * v_y + cam.R[2][0] * v_z;
            v_mean.y += cam.R[0][1] * v_x + cam.R[1][1] * v_y + cam.R[2][1] * v_z;
            v_mean.z += cam.R[0][2] * v_x + cam.R[1][2] * v_y + cam.R[2][2] * v_z;
        }
        v_means[3 * n] = v_mean.x, v_means[3 * n + 1] = v_mean.y, v_means[3 * n + 2] = v_mean.z;
        for (int k = 0; k < 3; k++)
            v_scales[3 * n + k] = v_M[0][k] * R[0][k] + v_M[1][k] * R[1][k] + v_M[2][k] * R[2][k];
        quat.backward(scaled_rotation(v_M, scales + 3 * n), v_quats + 4 * n);
    });
    return glimpse::kOk;
} catch (...) {
    return glimpse::status_of_exception();
}
