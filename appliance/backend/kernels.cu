// Preprocessing on the device: the rules of preprocess/reference.py, fused.
//
// Rules.
// 1. The reference decides. Weights, sizes, boxes, nearest planes and pixels are reckoned on the
//    host by reference.py and plan.py (tables.py packs them); here is only the sum. Sums are in
//    float32, so results differ from the reference by rounding alone.
// 2. One kernel from stored words to the tensor: rescale, padding, orient, resample along all three
//    axes, crop, window or z-score, pad, cast. The volume passes through device memory once: each
//    word is read from it once (neighbours find it in the cache), each voxel is written once. A
//    kernel a slice in the plane and one along z at the end would write and read the planes in
//    float32 between them. What is overlapped with a series' arrival is the upload of its slices;
//    they lie where they came (`slot`), in any order.
// 3. A thread writes elements that no other thread writes: no atomics, no shared memory, the same
//    bits on every run.
// 4. No thread reads out of a table: a voxel's taps all lie within its axis, those too many weigh 0.
// 5. Structs are passed by value and laid out as tables.py says; host_sizes lets the tests compare.
// 6. Words are 16 bits as stored, or (kernels called ..._of_f32) HU in float32, of a series whose
//    rescaling leaves no integers. A kernel is made for each: no word is asked what it is.
// 7. A soften op needs a second kernel, because a voxel needs its neighbours. The first writes HU in
//    float32, larger by the Gaussian's reach and with repeated edges where they are repeated; the
//    second reads those and does what follows. Along the normal a volume is softened by the weights
//    of its z axis, so no buffer holds more than a few planes of it.
// 8. Elements are written as f32, f16 or i8. i8 is ONNX's and TensorRT's QuantizeLinear with zero
//    point 0: the division by the scale is the last row of Points, `store` rounds and saturates.

#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <cstdint>
#define HAS_HALF
#else
#include "host_shim.h"
#endif

namespace {

constexpr float AIR_HU = -1000.0f;
constexpr int VIEW_SWAPPED = 4, VIEW_ROWS_FLIPPED = 2, VIEW_COLUMNS_FLIPPED = 1;

// The slices of a series as they were stored, and how to see them as HU [plane, y, x].
struct Slices {
    const void *words;       // [slots, raw rows, raw columns], cut to Bits Stored, sign extended
    const int32_t *slot;     // [planes] in order of rising z: which slot holds it
    const float *slope;      // [planes] PS3.3 C.11.1.1.2
    const float *intercept;  // [planes]
    const int32_t *padding;  // [planes, 2] stored values that are padding, both ends; low > high: none
    int64_t origin;          // of oriented pixel (0, 0) in its slice
    int64_t step_y, step_x;  // to the next oriented row and column, in words; negative when flipped
    int64_t slice_words;
    int32_t is_signed;       // Pixel Representation (0028,0103)
    int32_t planes, rows, columns;  // oriented
};

// One axis of the resampling: voxel i is the sum over t of weights[i, t] * input[first[i] + t].
struct Axis {
    const int32_t *first;
    const float *weights;
    int32_t taps, voxels;
};

// What follows resampling: value = (value - less) * more, then cut to 0..1 where clip is not 0.
struct Points {
    const float *rows;  // [count, 3] less, more, clip
    int32_t count;
    float fill;         // of voxels that a pad op adds, stored as it is: no row is applied to it
};

struct Prepare {
    Slices from;
    Axis z, y, x;
    Points points;
    int32_t depth, height, width;  // of the tensor, padding included
    void *out;                     // [depth, height, width]
};

struct Gather {
    Slices from;
    const int32_t *corners;  // [patches, 3] plane, first row, first column; these two may lie outside
    Points points;
    int32_t patches, views, size;
    void *out;               // [patches * views, size, size]
};

struct Cubes {
    Slices from;
    const int32_t *first;  // [cubes, 3 axes z y x, size] the lower voxel of two; below 0: outside
    const float *weights;  // [cubes, 3 axes, size, 2]; what weighs 0 is not read
    Points points;
    int32_t cubes, size;
    void *out;             // [cubes, size, size, size]
};

struct Soften {
    const float *from;  // [images, voxels z, y, x, each with taps - 1 more], HU
    const float *through, *down, *across;  // [taps] of each axis
    Points points;
    int32_t taps_z, taps_y, taps_x;
    int32_t voxels_z, voxels_y, voxels_x;  // of an image
    int32_t images, views;  // views: of patches, the swapped ones of which have their axes swapped
    int32_t depth, height, width;          // of an image in `out`, padding included
    void *out;                             // [images, depth, height, width]
};

struct Accumulate {
    const float *window;   // [channels, depth, height, width]: a network's output
    const float *weights;  // [depth, height, width]
    float *sum;            // [channels, whole depth, whole height, whole width]
    float *total;          // [whole depth, whole height, whole width]
    int32_t channels, depth, height, width;
    int32_t at_z, at_y, at_x;  // of the window's first voxel; it may reach over any edge
    int32_t whole_depth, whole_height, whole_width;
};

struct Normalise {
    float *sum;          // [channels, voxels], in place
    const float *total;  // [voxels]
    int64_t voxels;
    int32_t channels;
};

__device__ __forceinline__ float hounsfield(const Slices &from, int plane, uint16_t word) {
    const int stored = from.is_signed ? int(int16_t(word)) : int(word);
    if (stored >= from.padding[2 * plane] && stored <= from.padding[2 * plane + 1]) return AIR_HU;
    return from.slope[plane] * float(stored) + from.intercept[plane];
}

__device__ __forceinline__ float hounsfield(const Slices &, int, float word) { return word; }

template <typename Word>
__device__ __forceinline__ const Word *slice(const Slices &from, int plane) {
    const Word *words = static_cast<const Word *>(from.words);
    return words + from.slot[plane] * from.slice_words + from.origin;
}

__device__ __forceinline__ float pointwise(const Points &points, float value) {
    for (int i = 0; i < points.count; ++i) {
        const float *row = points.rows + 3 * i;
        value = (value - row[0]) * row[1];
        if (row[2] != 0.0f) value = fminf(fmaxf(value, 0.0f), 1.0f);
    }
    return value;
}

__device__ __forceinline__ void store(float *out, float value) { *out = value; }
#ifdef HAS_HALF
__device__ __forceinline__ void store(__half *out, float value) { *out = __float2half_rn(value); }
#endif
// To nearest, ties to even, which is how rintf rounds on a GPU always and on the host unless a
// program asks otherwise; cut first, so that no float is cast that an int8 does not hold.
__device__ __forceinline__ void store(int8_t *out, float value) {
    *out = int8_t(rintf(fminf(fmaxf(value, -128.0f), 127.0f)));
}

// Threads along x and y, one block of voxels a plane z of the grid.
template <typename Word, typename Element>
__device__ __forceinline__ void prepare(const Prepare &p) {
    const int k = int(blockIdx.z * blockDim.z + threadIdx.z);
    const int j = int(blockIdx.y * blockDim.y + threadIdx.y);
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (k >= p.depth || j >= p.height || i >= p.width) return;
    float value = p.points.fill;
    if (k < p.z.voxels && j < p.y.voxels && i < p.x.voxels) {
        const float *across = p.x.weights + int64_t(i) * p.x.taps;
        const float *down = p.y.weights + int64_t(j) * p.y.taps;
        const float *through = p.z.weights + int64_t(k) * p.z.taps;
        float sum = 0.0f;
        for (int c = 0; c < p.z.taps; ++c) {
            if (through[c] == 0.0f) continue;  // the same for a whole block: nothing diverges
            const int plane = p.z.first[k] + c;
            const Word *words = slice<Word>(p.from, plane);
            float of_plane = 0.0f;
            for (int b = 0; b < p.y.taps; ++b) {
                const Word *row = words + (p.y.first[j] + b) * p.from.step_y;
                float of_row = 0.0f;
                for (int a = 0; a < p.x.taps; ++a) {
                    const Word word = row[(p.x.first[i] + a) * p.from.step_x];
                    of_row += across[a] * hounsfield(p.from, plane, word);
                }
                of_plane += down[b] * of_row;
            }
            sum += through[c] * of_plane;
        }
        value = pointwise(p.points, sum);
    }
    const int64_t at = (int64_t(k) * p.height + j) * p.width + i;
    store(static_cast<Element *>(p.out) + at, value);
}

// One block of threads a view of a patch (z of the grid); the order of views is reference.views.
template <typename Word, typename Element>
__device__ __forceinline__ void gather(const Gather &g) {
    const int which = int(blockIdx.z * blockDim.z + threadIdx.z);
    const int i = int(blockIdx.y * blockDim.y + threadIdx.y);
    const int j = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (which >= g.patches * g.views || i >= g.size || j >= g.size) return;
    const int view = which % g.views;
    const int a = view & VIEW_ROWS_FLIPPED ? g.size - 1 - i : i;
    const int b = view & VIEW_COLUMNS_FLIPPED ? g.size - 1 - j : j;
    const int32_t *corner = g.corners + 3 * (which / g.views);
    const int64_t y = int64_t(corner[1]) + (view & VIEW_SWAPPED ? b : a);
    const int64_t x = int64_t(corner[2]) + (view & VIEW_SWAPPED ? a : b);
    float value = AIR_HU;
    if (y >= 0 && y < g.from.rows && x >= 0 && x < g.from.columns) {
        const int64_t at = y * g.from.step_y + x * g.from.step_x;
        value = hounsfield(g.from, corner[0], slice<Word>(g.from, corner[0])[at]);
    }
    const int64_t at = (int64_t(which) * g.size + i) * g.size + j;
    store(static_cast<Element *>(g.out) + at, pointwise(g.points, value));
}

// One block of threads a layer of a cube (z of the grid): trilinear between native voxels.
template <typename Word, typename Element>
__device__ __forceinline__ void cubes(const Cubes &c) {
    const int layer = int(blockIdx.z * blockDim.z + threadIdx.z);
    const int j = int(blockIdx.y * blockDim.y + threadIdx.y);
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (layer >= c.cubes * c.size || j >= c.size || i >= c.size) return;
    const int cube = layer / c.size, k = layer % c.size;
    const int64_t of_cube = int64_t(cube) * 3 * c.size;
    const int64_t z = of_cube + k, y = of_cube + c.size + j, x = of_cube + 2 * c.size + i;
    float value = AIR_HU;
    if (c.first[z] >= 0 && c.first[y] >= 0 && c.first[x] >= 0) {
        const float *through = c.weights + 2 * z, *down = c.weights + 2 * y;
        const float *across = c.weights + 2 * x;
        value = 0.0f;
        for (int n = 0; n < 2; ++n) {
            if (through[n] == 0.0f) continue;
            const int plane = c.first[z] + n;
            const Word *words = slice<Word>(c.from, plane);
            float of_plane = 0.0f;
            for (int b = 0; b < 2; ++b) {
                if (down[b] == 0.0f) continue;
                const Word *row = words + (c.first[y] + b) * c.from.step_y;
                float of_row = 0.0f;
                for (int a = 0; a < 2; ++a) {
                    if (across[a] == 0.0f) continue;
                    const Word word = row[(c.first[x] + a) * c.from.step_x];
                    of_row += across[a] * hounsfield(c.from, plane, word);
                }
                of_plane += down[b] * of_row;
            }
            value += through[n] * of_plane;
        }
    }
    const int64_t at = (int64_t(layer) * c.size + j) * c.size + i;
    store(static_cast<Element *>(c.out) + at, pointwise(c.points, value));
}

// One block of threads a layer of an image (z of the grid).
template <typename Element>
__device__ __forceinline__ void soften(const Soften &s) {
    const int layer = int(blockIdx.z * blockDim.z + threadIdx.z);
    const int j = int(blockIdx.y * blockDim.y + threadIdx.y);
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (layer >= s.images * s.depth || j >= s.height || i >= s.width) return;
    const int image = layer / s.depth, k = layer % s.depth;
    float value = s.points.fill;
    if (k < s.voxels_z && j < s.voxels_y && i < s.voxels_x) {
        const bool swapped = image % s.views & VIEW_SWAPPED;
        const float *down = swapped ? s.across : s.down;
        const float *across = swapped ? s.down : s.across;
        const int64_t wide = s.voxels_x + s.taps_x - 1, high = s.voxels_y + s.taps_y - 1;
        const int64_t first = int64_t(image) * (s.voxels_z + s.taps_z - 1) + k;
        float sum = 0.0f;
        for (int c = 0; c < s.taps_z; ++c) {
            float of_plane = 0.0f;
            for (int b = 0; b < s.taps_y; ++b) {
                const float *row = s.from + ((first + c) * high + j + b) * wide + i;
                float of_row = 0.0f;
                for (int a = 0; a < s.taps_x; ++a) of_row += across[a] * row[a];
                of_plane += down[b] * of_row;
            }
            sum += s.through[c] * of_plane;
        }
        value = pointwise(s.points, sum);
    }
    const int64_t at = (int64_t(layer) * s.height + j) * s.width + i;
    store(static_cast<Element *>(s.out) + at, value);
}

}  // namespace

extern "C" {

// The three, of stored words and of HU in float32, and `soften`, for one kind of element.
#define KERNELS(name, Element)                                                           \
    __global__ void prepare_##name(Prepare p) { prepare<uint16_t, Element>(p); }         \
    __global__ void gather_##name(Gather g) { gather<uint16_t, Element>(g); }            \
    __global__ void cubes_##name(Cubes c) { cubes<uint16_t, Element>(c); }               \
    __global__ void prepare_##name##_of_f32(Prepare p) { prepare<float, Element>(p); }   \
    __global__ void gather_##name##_of_f32(Gather g) { gather<float, Element>(g); }      \
    __global__ void cubes_##name##_of_f32(Cubes c) { cubes<float, Element>(c); }         \
    __global__ void soften_##name(Soften s) { soften<Element>(s); }
KERNELS(f32, float)
KERNELS(i8, int8_t)
#ifdef HAS_HALF
KERNELS(f16, __half)
#endif

// One window of a sliding-window inference: launches on one stream follow each other, so sums of
// overlapping windows need no atomics and come out the same every time.
__global__ void accumulate(Accumulate w) {
    const int k = int(blockIdx.z * blockDim.z + threadIdx.z);
    const int j = int(blockIdx.y * blockDim.y + threadIdx.y);
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (k >= w.depth || j >= w.height || i >= w.width) return;
    const int64_t z = int64_t(w.at_z) + k, y = int64_t(w.at_y) + j, x = int64_t(w.at_x) + i;
    if (z < 0 || z >= w.whole_depth || y < 0 || y >= w.whole_height) return;
    if (x < 0 || x >= w.whole_width) return;
    const int64_t here = (int64_t(k) * w.height + j) * w.width + i;
    const int64_t there = (z * w.whole_height + y) * w.whole_width + x;
    const int64_t window = int64_t(w.depth) * w.height * w.width;
    const int64_t whole = int64_t(w.whole_depth) * w.whole_height * w.whole_width;
    const float weight = w.weights[here];
    w.total[there] += weight;
    for (int c = 0; c < w.channels; ++c)
        w.sum[c * whole + there] += weight * w.window[c * window + here];
}

// The weighted mean; 0 where no window came.
__global__ void normalise(Normalise n) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n.voxels) return;
    const float total = n.total[i];
    for (int c = 0; c < n.channels; ++c) {
        float *value = n.sum + c * n.voxels + i;
        *value = total > 0.0f ? *value / total : 0.0f;
    }
}

#ifndef __CUDACC__
#define ON_HOST(name, Arguments)                                                             \
    void host_##name(const unsigned *grid, const unsigned *block, const Arguments *given) {  \
        on_host(name, grid, block, *given);                                                  \
    }
#define KERNELS_ON_HOST(name)                 \
    ON_HOST(prepare_##name, Prepare)          \
    ON_HOST(gather_##name, Gather)            \
    ON_HOST(cubes_##name, Cubes)              \
    ON_HOST(prepare_##name##_of_f32, Prepare) \
    ON_HOST(gather_##name##_of_f32, Gather)   \
    ON_HOST(cubes_##name##_of_f32, Cubes)     \
    ON_HOST(soften_##name, Soften)
KERNELS_ON_HOST(f32)
KERNELS_ON_HOST(i8)
#ifdef HAS_HALF
KERNELS_ON_HOST(f16)
#endif
ON_HOST(accumulate, Accumulate)
ON_HOST(normalise, Normalise)
void host_sizes(int64_t *sizes) {
    sizes[0] = sizeof(Prepare);
    sizes[1] = sizeof(Gather);
    sizes[2] = sizeof(Accumulate);
    sizes[3] = sizeof(Normalise);
    sizes[4] = sizeof(Cubes);
    sizes[5] = sizeof(Soften);
}
#endif

}  // extern "C"
