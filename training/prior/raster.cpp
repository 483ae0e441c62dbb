// First and last hit of every pixel with a triangle soup, the light on them, and an outline
// inflated; it knows nothing about what the triangles show. Single-threaded: training runs one
// process per core.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct Vec {
  float x, y, z;
};
inline Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec operator*(float k, Vec a) { return {k * a.x, k * a.y, k * a.z}; }
inline Vec operator*(Vec a, Vec b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec cross(Vec a, Vec b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline Vec unit(Vec a) { return (1.f / (std::sqrt(dot(a, a)) + 1e-12f)) * a; }
inline Vec load(const float* p) { return {p[0], p[1], p[2]}; }
inline void store(float* p, Vec a) { p[0] = a.x, p[1] = a.y, p[2] = a.z; }
inline float clamp(float a) { return std::min(std::max(a, 0.f), 1.f); }
inline float step_up(float low, float high, float a) {
  float t = clamp((a - low) / (high - low));
  return t * t * (3.f - 2.f * t);
}
// Highlights bend into white instead of being cut.
inline float film(float a) {
  a = std::max(a, 0.f);
  if (a > .75f) a = 1.f - .25f * std::exp(-(a - .75f) / .25f);
  return std::sqrt(a);
}

// Squared distance of the pixels `of` to the nearest marked one and, if wanted, that one's index.
void nearest(const std::vector<uint8_t>& marked, const std::vector<int>& of, int height, int width,
             std::vector<int>& square, std::vector<int>* index) {
  const int far = 1 << 12;  // its square and twice that are still ints
  std::vector<int> row_of(height * width, -far);
  for (int x = 0; x < width; x++) {
    int last = -far;
    for (int y = 0; y < height; y++) {
      if (marked[y * width + x]) last = y;
      row_of[y * width + x] = last;
    }
    last = -far;
    for (int y = height - 1; y >= 0; y--) {
      if (marked[y * width + x]) last = y;
      int& best = row_of[y * width + x];
      if (last != -far && (best == -far || last - y < y - best)) best = last;
    }
  }
  square.assign(height * width, far * far);
  if (index) index->assign(height * width, -1);
  for (int i : of) {
    const int y = i / width, x = i % width;
    int best = far * far, from = -1;
    for (int j = 0; j < width; j++) {
      const int row = row_of[y * width + j], d = (row - y) * (row - y) + (j - x) * (j - x);
      if (d < best) best = d, from = row * width + j;
    }
    square[i] = best;
    if (index) (*index)[i] = from;
  }
}

// Gaussian blur as scipy.ndimage does it: cut at four sigma, mirrored at the border.
void blur(std::vector<double>& plane, int side, double sigma) {
  int radius = static_cast<int>(4 * sigma + .5);
  std::vector<double> weight(2 * radius + 1), line(side + 2 * radius);
  double sum = 0;
  for (int k = -radius; k <= radius; k++) sum += weight[k + radius] = std::exp(-.5 * k * k / (sigma * sigma));
  auto mirrored = [side](int i) {
    while (i < 0 || i >= side) i = i < 0 ? -1 - i : 2 * side - 1 - i;
    return i;
  };
  for (int pass = 0; pass < 2; pass++)
    for (int a = 0; a < side; a++) {
      int start = pass ? a : a * side, stride = pass ? side : 1;
      for (int i = -radius; i < side + radius; i++)
        line[i + radius] = plane[start + mirrored(i) * stride];
      for (int i = 0; i < side; i++) {
        double total = 0;
        for (int k = 0; k <= 2 * radius; k++) total += weight[k] * line[i + k];
        plane[start + i * stride] = total / sum;
      }
    }
}

}  // namespace

// The normals of faces [T, 3] and of vertices [V, 3] (area-weighted), unit length.
extern "C" void scene_normals(const float* v, int vertices, const int32_t* tri, int faces,
                              float* face_normal, float* vertex_normal) {
  std::fill(vertex_normal, vertex_normal + 3 * static_cast<size_t>(vertices), 0.f);
  for (int t = 0; t < faces; t++) {
    const int32_t* id = tri + 3 * t;
    Vec a = load(v + 3 * id[0]);
    Vec n = cross(load(v + 3 * id[1]) - a, load(v + 3 * id[2]) - a);
    for (int k = 0; k < 3; k++) store(vertex_normal + 3 * id[k], load(vertex_normal + 3 * id[k]) + n);
    store(face_normal + 3 * t, unit(n));
  }
  for (int i = 0; i < vertices; i++) store(vertex_normal + 3 * i, unit(load(vertex_normal + 3 * i)));
}

// Faces, depths and perspective-correct shares of corners 1 and 2 of the first and the last hit;
// face -1 where nothing is hit. v [V, 3] in the camera (z forward), f in pixels, square picture.
extern "C" void scene_hits(const float* v, int vertices, const int32_t* tri, int faces, float f,
                           int side, int32_t* t0, float* z0, float* b0, int32_t* t1, float* z1,
                           float* b1) {
  for (int i = 0; i < side * side; i++) {
    t0[i] = t1[i] = -1;
    z0[i] = 1e9f, z1[i] = -1e9f;
  }
  const float c = .5f * side;
  std::vector<Vec> p(vertices);  // picture x, y and 1 / z
  for (int i = 0; i < vertices; i++) {
    float z = v[3 * i + 2], w = z > 1e-3f ? 1.f / z : -1.f;
    p[i] = {f * v[3 * i] * w + c, f * v[3 * i + 1] * w + c, w};
  }
  for (int t = 0; t < faces; t++) {
    Vec a = p[tri[3 * t]], b = p[tri[3 * t + 1]], d = p[tri[3 * t + 2]];
    if (a.z < 0 || b.z < 0 || d.z < 0) continue;
    float area = (b.x - a.x) * (d.y - a.y) - (d.x - a.x) * (b.y - a.y);
    if (std::fabs(area) < 1e-9f) continue;
    int xa = std::max(0, static_cast<int>(std::ceil(std::min({a.x, b.x, d.x}) - .5f)));
    int xb = std::min(side - 1, static_cast<int>(std::floor(std::max({a.x, b.x, d.x}) - .5f)));
    int ya = std::max(0, static_cast<int>(std::ceil(std::min({a.y, b.y, d.y}) - .5f)));
    int yb = std::min(side - 1, static_cast<int>(std::floor(std::max({a.y, b.y, d.y}) - .5f)));
    float inv = 1.f / area;
    float l1x = (d.y - a.y) * inv, l1y = -(d.x - a.x) * inv;
    float l2x = -(b.y - a.y) * inv, l2y = (b.x - a.x) * inv;
    for (int j = ya; j <= yb; j++)
      for (int i = xa; i <= xb; i++) {
        float px = i + .5f - a.x, py = j + .5f - a.y;
        float l1 = l1x * px + l1y * py, l2 = l2x * px + l2y * py, l0 = 1.f - l1 - l2;
        if (l0 < -1e-5f || l1 < -1e-5f || l2 < -1e-5f) continue;
        float z = 1.f / (l0 * a.z + l1 * b.z + l2 * d.z);
        int q = j * side + i;
        if (z < z0[q]) z0[q] = z, t0[q] = t, b0[2 * q] = l1 * b.z * z, b0[2 * q + 1] = l2 * d.z * z;
        if (z > z1[q]) z1[q] = z, t1[q] = t, b1[2 * q] = l1 * b.z * z, b1[2 * q + 1] = l2 * d.z * z;
      }
  }
}

// How far towards a distant light each part of the soup reaches: depth [side, side], the largest
// v . direction seen through each pixel (-1e9 where none), and where pixels lie, map [9]: picture x
// is map[0..2] . v + map[6], y is map[3..5] . v + map[7]; map[8] is the width of a pixel.
extern "C" void scene_shadow(const float* v, int vertices, const int32_t* tri, int faces,
                             const float* direction, int side, float* depth, float* map) {
  const Vec d = load(direction);
  const Vec across = unit(cross(std::fabs(d.z) < .9f ? Vec{0, 0, 1} : Vec{1, 0, 0}, d));
  const Vec up = cross(d, across);
  float low[2] = {1e9f, 1e9f}, high[2] = {-1e9f, -1e9f};
  std::vector<Vec> p(vertices);
  for (int i = 0; i < vertices; i++) {
    const Vec at = load(v + 3 * i);
    p[i] = {dot(across, at), dot(up, at), dot(d, at)};
    low[0] = std::min(low[0], p[i].x), high[0] = std::max(high[0], p[i].x);
    low[1] = std::min(low[1], p[i].y), high[1] = std::max(high[1], p[i].y);
  }
  const float scale = (side - 2) / std::max({high[0] - low[0], high[1] - low[1], 1e-6f});
  store(map, scale * across), store(map + 3, scale * up);
  map[6] = 1 - scale * low[0], map[7] = 1 - scale * low[1], map[8] = 1 / scale;
  std::fill(depth, depth + side * side, -1e9f);
  for (Vec& q : p) q = {scale * q.x + map[6], scale * q.y + map[7], q.z};
  for (int t = 0; t < faces; t++) {
    const Vec a = p[tri[3 * t]], b = p[tri[3 * t + 1]], c = p[tri[3 * t + 2]];
    const float area = (b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y);
    if (std::fabs(area) < 1e-9f) continue;
    const int xa = std::max(0, static_cast<int>(std::ceil(std::min({a.x, b.x, c.x}) - .5f)));
    const int xb = std::min(side - 1, static_cast<int>(std::max({a.x, b.x, c.x}) - .5f));
    const int ya = std::max(0, static_cast<int>(std::ceil(std::min({a.y, b.y, c.y}) - .5f)));
    const int yb = std::min(side - 1, static_cast<int>(std::max({a.y, b.y, c.y}) - .5f));
    const float inv = 1.f / area;
    for (int j = ya; j <= yb; j++)
      for (int i = xa; i <= xb; i++) {
        const float px = i + .5f - a.x, py = j + .5f - a.y;
        const float l1 = ((c.y - a.y) * px - (c.x - a.x) * py) * inv;
        const float l2 = ((b.x - a.x) * py - (b.y - a.y) * px) * inv;
        if (l1 < -1e-5f || l2 < -1e-5f || l1 + l2 > 1 + 1e-5f) continue;
        float& held = depth[j * side + i];
        held = std::max(held, a.z + l1 * (b.z - a.z) + l2 * (c.z - a.z));
      }
  }
}

// Colours sRGB 0..1 out [n, 3] of n hits (0 where the face is -1), seen from `eye` or, with `behind` (the last hits), along
// the same rays from the other side.
// paint per slot: picture number; [24] gain 3, offset 3, texture map 2 x 3, specular, exponent,
// mirror, metal, 8 spare. light: sky 3, ground 3, count, strength and softness (frame widths) of the
// first light's shadows, then direction 3, colour 3, wrap each; linear. open [n]: the share of the
// sky that reaches the hit. shadow, map: what scene_shadow gives for the first light.
extern "C" void scene_shade(int n, const int32_t* face_of, const float* bary, const float* open,
                            const float* v, const int32_t* tri, const float* uv, const float* vn,
                            const float* fn, const uint8_t* smooth, const int32_t* slot,
                            const uint8_t* bank, int m, const int32_t* picture, const float* paint,
                            const float* eye_at, int behind, const float* light,
                            const float* shadow, const float* map, int shadow_side, float* out) {
  const Vec eye = load(eye_at), sky = load(light), ground = load(light + 3);
  const int count = static_cast<int>(light[6]);
  const float dark = light[7], spread = std::max(light[8] / map[8], 1.f);
  for (int q = 0; q < n; q++) {
    const int t = face_of[q];
    if (t < 0) {
      out[3 * q] = out[3 * q + 1] = out[3 * q + 2] = 0;
      continue;
    }
    const int32_t* id = tri + 3 * t;
    const float w[3] = {1 - bary[2 * q] - bary[2 * q + 1], bary[2 * q], bary[2 * q + 1]};
    Vec at{0, 0, 0}, normal{0, 0, 0};
    float u0 = 0, v0 = 0;
    for (int k = 0; k < 3; k++) {
      at = at + w[k] * load(v + 3 * id[k]);
      normal = normal + w[k] * load(vn + 3 * id[k]);
      u0 += w[k] * uv[2 * id[k]], v0 += w[k] * uv[2 * id[k] + 1];
    }
    const Vec flat = load(fn + 3 * t), to_eye = (behind ? -1.f : 1.f) * unit(eye - at);
    normal = unit(smooth[t] ? normal : flat);
    if (dot(flat, to_eye) < 0) normal = -1.f * normal;  // whatever the winding, it faces the eye

    const float* p = paint + 24 * slot[t];
    float u = p[6] * u0 + p[7] * v0 + p[8], w0 = p[9] * u0 + p[10] * v0 + p[11];
    // Whole turns keep their far edge: 1 stays 1.
    u -= std::floor(u * .99999f), w0 -= std::floor(w0 * .99999f);
    const float x = std::min(std::max(u * (m - 1), 0.f), m - 1.001f);
    const float y = std::min(std::max(w0 * (m - 1), 0.f), m - 1.001f);
    const int i = static_cast<int>(x), j = static_cast<int>(y);
    const float fx = x - i, fy = y - j;
    const uint8_t* texel = bank + 3 * ((static_cast<size_t>(picture[slot[t]]) * m + j) * m + i);
    float c[3];
    for (int k = 0; k < 3; k++) {
      const float up = texel[k] * (1 - fx) + texel[3 + k] * fx;
      const float down = texel[3 * m + k] * (1 - fx) + texel[3 * m + 3 + k] * fx;
      c[k] = clamp((up * (1 - fy) + down * fy) * (1 / 255.f) * p[k] + p[3 + k]);
    }
    const Vec albedo{c[0] * c[0], c[1] * c[1], c[2] * c[2]};

    const float specular = p[12], exponent = p[13], mirror = p[14], metal = p[15];
    const float high = .5f + .5f * normal.z;
    Vec diffuse = open[q] * (high * sky + (1 - high) * ground), shine{0, 0, 0};
    const float facing = std::max(dot(normal, to_eye), 0.f);
    const Vec mirrored = 2 * dot(normal, to_eye) * normal - to_eye;
    for (int k = 0; k < count; k++) {
      const float* l = light + 9 + 7 * k;
      const Vec to_light = load(l), color = load(l + 3);
      const float wrap = l[6], slant = dot(normal, to_light);
      float lit = std::max((slant + wrap) / (1 + wrap), 0.f);
      if (k == 0 && dark > 0 && slant > 0) {  // what faces away is dark without a shadow
        const float rise = std::sqrt(std::max(1 - slant * slant, 0.f)) / std::max(slant, .2f);
        const float least = dot(at, to_light) + .008f + (spread + 1) * map[8] * rise;
        const unsigned hash = (q + 1u) * 2654435761u;  // grain instead of steps
        const float cx = dot(load(map), at) + map[6] + ((hash >> 8 & 255) / 255.f - .5f) * spread * .6f;
        const float cy = dot(load(map + 3), at) + map[7] + ((hash >> 16 & 255) / 255.f - .5f) * spread * .6f;
        int covered = 0;
        for (int b = -1; b <= 1; b++)
          for (int a = -1; a <= 1; a++) {
            const int sx = static_cast<int>(cx + a * spread), sy = static_cast<int>(cy + b * spread);
            if (sx >= 0 && sy >= 0 && sx < shadow_side && sy < shadow_side)
              covered += shadow[sy * shadow_side + sx] > least;
          }
        lit *= 1 - dark * step_up(0, .25f, slant) * covered / 9.f;
      }
      diffuse = diffuse + (.5f + .5f * open[q]) * lit * color;
      if (specular > 0 && lit > 0) {
        const float half = std::max(dot(normal, unit(to_light + to_eye)), 0.f);
        if (half > .3f) shine = shine + specular * std::exp2(exponent * std::log2(half)) * color;
      }
      if (mirror > 0 && k == 0)  // the first light is a window
        shine = shine + mirror * step_up(.8f, .95f, dot(mirrored, to_light)) * color;
    }
    Vec tint{1, 1, 1};
    if (mirror > 0) {
      const float grazing = (1 - facing) * (1 - facing);
      const float base = .04f + .6f * metal;
      const float share = mirror * (base + (1 - base) * grazing * grazing * (1 - facing));
      const float up = step_up(-.15f, .3f, mirrored.z);
      shine = shine + share * open[q] * (1.2f * up * sky + (1 - up) * ground);
    }
    if (metal > 0) {
      tint = metal * albedo + Vec{1 - metal, 1 - metal, 1 - metal};
      diffuse = (1 - .55f * metal) * diffuse;
    }
    const Vec seen = albedo * diffuse + tint * shine;
    out[3 * q] = film(seen.x), out[3 * q + 1] = film(seen.y), out[3 * q + 2] = film(seen.z);
  }
}

// What pipeline.engines.views.relief.relief_shape.inflate gives for small outlines (side <= 128
// and at most its DIRECT_UNKNOWNS pixels inside), in pixels, out [side, side].
extern "C" void scene_inflate(const uint8_t* mask, int side, float* out) {
  const int area = side * side, wide = side + 2;
  std::vector<uint8_t> inside(mask, mask + area);
  std::vector<int> cells;
  for (int i = 0; i < area; i++) {
    out[i] = 0;
    if (inside[i]) cells.push_back(i);
  }
  if (cells.empty()) return;

  std::vector<int> places;
  for (int i : cells) places.push_back((i / side + 1) * wide + i % side + 1);
  // Distance to the outside; the picture's border is outside.
  std::vector<uint8_t> outside(wide * wide, 1);
  for (int i : places) outside[i] = 0;
  std::vector<int> square;
  nearest(outside, places, wide, wide, square, nullptr);
  std::vector<double> depth(area, 0.), width(area, 0.);
  double deepest = 0;
  for (size_t k = 0; k < cells.size(); k++) {
    depth[cells[k]] = width[cells[k]] = std::sqrt(double(square[places[k]]));
    deepest = std::max(deepest, depth[cells[k]]);
  }
  // laplace(u) = -4 by over-relaxation on a plane with a border of zeros.
  std::vector<double> u(wide * wide, 0.);
  const double omega = 2 / (1 + std::sin(3.14159265 / (2 * deepest + 2)));
  for (int turn = 0; turn < 400; turn++) {
    double change = 0, largest = 0;
    for (int i : places) {
      double next = .25 * (4 + u[i - 1] + u[i + 1] + u[i - wide] + u[i + wide]) - u[i];
      u[i] += omega * next;
      change = std::max(change, std::fabs(next)), largest = std::max(largest, u[i]);
    }
    if (change < 1e-4 * largest) break;
  }
  // Radius of the largest disc inside that covers a pixel, in 32 steps.
  const double pace = deepest / 32;
  for (int q : cells) {
    const double radius = pace * std::floor(depth[q] / pace + 1e-9);
    const int reach = static_cast<int>(radius), qx = q % side, qy = q / side;
    for (int y = std::max(0, qy - reach); y <= std::min(side - 1, qy + reach); y++)
      for (int x = std::max(0, qx - reach); x <= std::min(side - 1, qx + reach); x++) {
        double& held = width[y * side + x];
        if (held < radius && inside[y * side + x] &&
            (y - qy) * (y - qy) + (x - qx) * (x - qx) < radius * radius)
          held = radius;
      }
  }
  // The ridge's factor carried to every pixel and smoothed.
  std::vector<uint8_t> ridge(area, 0);
  std::vector<double> raw(area, 0.), factor(area, 0.), share(area, 0.);
  for (size_t k = 0; k < cells.size(); k++) {
    const int i = cells[k];
    raw[i] = std::sqrt(std::max(u[places[k]], 0.));
    ridge[i] = depth[i] >= .85 * width[i];
  }
  std::vector<int> index;
  nearest(ridge, cells, side, side, square, &index);
  for (int i : cells) {
    const int r = index[i];
    factor[i] = r < 0 ? 1. : std::min(1., width[r] / std::max(raw[r], 1e-6));
    share[i] = 1;
  }
  blur(factor, side, .03 * side);
  blur(share, side, .03 * side);
  for (int i : cells)
    out[i] = static_cast<float>(std::max(raw[i] * factor[i] / std::max(share[i], 1e-9), .3));
}
