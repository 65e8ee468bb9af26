// One pass of Adam over all parameters, on the processor.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <cstring>
#include <exception>
#include <string>

using Kernel = void(void *, void *, void *, size_t, size_t, double, double, double, double);

extern "C" {
Kernel ceteris_adam_fp64_scalar, ceteris_adam_fp32_scalar;
#ifdef CETERIS_X86
Kernel ceteris_adam_fp64_avx2, ceteris_adam_fp32_avx2, ceteris_adam_fp64_avx512, ceteris_adam_fp32_avx512;
#endif
}

namespace {

Kernel *kernel(bool wide) {
#ifdef CETERIS_X86
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return wide ? ceteris_adam_fp64_avx512 : ceteris_adam_fp32_avx512;
  if (capability == "AVX2") return wide ? ceteris_adam_fp64_avx2 : ceteris_adam_fp32_avx2;
#endif
  return wide ? ceteris_adam_fp64_scalar : ceteris_adam_fp32_scalar;
}

}  // namespace

// Updates the moments and writes the direction over the gradient: three contiguous tensors of one length and type, fp32
// or fp64. Returns 0, or 1 with the reason, cut to `length` bytes and ended by a zero, in `reason`.
extern "C" int ceteris_adam(const at::Tensor *first, const at::Tensor *second, const at::Tensor *gradient, double beta1,
                            double beta2, double epsilon, double correction, char *reason, size_t length) {
  try {
    const int64_t count = gradient->numel();
    for (const at::Tensor *tensor : {first, second, gradient}) {
      TORCH_CHECK(tensor->numel() == count && tensor->is_contiguous() && tensor->is_cpu() &&
                      tensor->scalar_type() == gradient->scalar_type(),
                  "Adam's tensors are not of one kind");
    }
    TORCH_CHECK(gradient->scalar_type() == at::kFloat || gradient->scalar_type() == at::kDouble,
                "Adam computes in fp32 or fp64");
    Kernel *run = kernel(gradient->scalar_type() == at::kDouble);
    void *m = first->data_ptr(), *v = second->data_ptr(), *g = gradient->data_ptr();
    at::parallel_for(0, count, 65536, [&](int64_t begin, int64_t end) {
      run(m, v, g, static_cast<size_t>(begin), static_cast<size_t>(end), beta1, beta2, epsilon, correction);
    });
    return 0;
  } catch (const std::exception &error) {
    std::strncpy(reason, error.what(), length - 1);
    reason[length - 1] = 0;
    return 1;
  }
}
