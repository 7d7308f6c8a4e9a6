// Lets g++ compile kernels.cu as plain C++, so that its arithmetic is tested without a GPU.
//
//     g++ -x c++ -std=c++17 -O2 -shared -fPIC kernels.cu -o kernels.so
//
// A launch is a loop over blocks and threads, one after the other. So a kernel that needs
// __syncthreads, shared memory or atomics cannot be written here, and none is needed: each thread
// writes elements of its own. What this cannot show: races, alignment, occupancy, speed.
//
// A half is the compiler's own type, which it rounds to nearest, ties to even, as the device does:
// _Float16 of g++ 12 and later on x86-64, __fp16 of any g++ on aarch64 (its _Float16 is C++ only
// from 13 on). Where there is neither, HAS_HALF is not defined and the f16 kernels are left out.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict

#if defined(__aarch64__)
using __half = __fp16;
#define HAS_HALF
#elif defined(__FLT16_MANT_DIG__)
using __half = _Float16;
#define HAS_HALF
#endif
#ifdef HAS_HALF
inline __half __float2half_rn(float value) { return static_cast<__half>(value); }
#endif

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

template <typename Kernel, typename Arguments>
void on_host(Kernel kernel, const unsigned *grid, const unsigned *block, const Arguments &given) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    dim3 b, t;
    for (b.z = 0; b.z < gridDim.z; ++b.z)
        for (b.y = 0; b.y < gridDim.y; ++b.y)
            for (b.x = 0; b.x < gridDim.x; ++b.x)
                for (t.z = 0; t.z < blockDim.z; ++t.z)
                    for (t.y = 0; t.y < blockDim.y; ++t.y)
                        for (t.x = 0; t.x < blockDim.x; ++t.x) {
                            blockIdx = b;
                            threadIdx = t;
                            kernel(given);
                        }
}
