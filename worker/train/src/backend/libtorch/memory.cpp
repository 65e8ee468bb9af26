// How much memory a GPU has. libtorch's C++ says it only where its CUDA headers are installed; the driver says it to
// whoever asks, and it is there wherever a GPU is.
#include <dlfcn.h>

#include <cstddef>

// The bytes of the GPU that this process counts as `index`; 0 where the driver is not there or does not say.
extern "C" unsigned long long ceteris_gpu_memory(int index) {
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) {
    return 0;
  }
  // CUresult is an enumeration with success as 0, CUdevice an int.
  auto start = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  auto device_of = reinterpret_cast<int (*)(int *, int)>(dlsym(driver, "cuDeviceGet"));
  auto total_of = reinterpret_cast<int (*)(size_t *, int)>(dlsym(driver, "cuDeviceTotalMem_v2"));
  int device = 0;
  size_t total = 0;
  // The driver stays loaded: libtorch uses it too.
  if (start == nullptr || device_of == nullptr || total_of == nullptr || start(0) != 0 ||
      device_of(&device, index) != 0 || total_of(&total, device) != 0) {
    return 0;
  }
  return total;
}
