// What libtorch keeps for the whole process and tch does not reach: whether its kernels are deterministic, and how fp32
// products are computed. Nothing else belongs here.
#include <ATen/Context.h>

#include <cstring>
#include <exception>

// Sets the context. Returns 0, or 1 with the reason, cut to `length` bytes and ended by a zero, in `reason`.
extern "C" int ceteris_set_context(int deterministic, int tf32, char *reason, size_t length) {
  try {
    auto &context = at::globalContext();
    // Where there is no deterministic kernel, libtorch warns and goes on.
    context.setDeterministicAlgorithms(deterministic != 0, true);
    context.setDeterministicCuDNN(deterministic != 0);
    // Benchmarking picks convolution algorithms by the clock.
    context.setBenchmarkCuDNN(false);
    context.setAllowTF32CuDNN(tf32 != 0);
    context.setAllowTF32CuBLAS(tf32 != 0);
    return 0;
  } catch (const std::exception &error) {
    std::strncpy(reason, error.what(), length - 1);
    reason[length - 1] = 0;
    return 1;
  }
}
