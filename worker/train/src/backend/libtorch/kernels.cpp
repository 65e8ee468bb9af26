// Concatenation, batch normalisation and ReLU in one pass over memory, and their gradient in two.
//
// This file is compiled once for each instruction set that libtorch dispatches to (CETERIS_CAPABILITY names it), so it
// includes nothing with inline functions of its own. Loops run over channels, which lie next to each other, and every
// channel's sums are taken row by row: vector width does not change a bit, and products and sums are not contracted.
#include <stddef.h>
#include <stdint.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(JOIN(name, _), CETERIS_CAPABILITY)

namespace {

// bfloat16: the upper half of a binary32.
struct bf16 {
  uint16_t bits;
};

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }
inline float widen(bf16 value) {
  union {
    uint32_t bits;
    float value;
  } wide = {static_cast<uint32_t>(value.bits) << 16};
  return wide.value;
}

inline void narrow(float value, float &out) { out = value; }
inline void narrow(double value, double &out) { out = value; }
// To nearest, ties to even. What is not a number stays one: its upper bits are kept.
inline void narrow(float value, bf16 &out) {
  union {
    float value;
    uint32_t bits;
  } wide = {value};
  const uint32_t rounded = wide.bits + 0x7fffu + ((wide.bits >> 16) & 1u);
  out.bits = static_cast<uint16_t>((value == value ? rounded : wide.bits | 0x00400000u) >> 16);
}

// Channels that are summed in registers.
constexpr size_t kTile = 32;
// Rows whose sums are taken in the type of the values before they are added up in double precision.
constexpr size_t kRows = 128;

// Sums of (x - first) and of its square, where `first` is each channel's value in row 0 of the piece.
template <typename T, typename A>
void sums(const T *piece, size_t channels, size_t begin, size_t end, double *sum, double *square) {
  for (size_t block = begin; block < end; block += kRows) {
    const size_t last = block + kRows < end ? block + kRows : end;
    for (size_t tile = 0; tile < channels; tile += kTile) {
      const size_t width = channels - tile < kTile ? channels - tile : kTile;
      A s[kTile] = {}, q[kTile] = {}, first[kTile] = {};
      for (size_t c = 0; c < width; ++c) first[c] = widen(piece[tile + c]);
      if (width == kTile) {
        for (size_t row = block; row < last; ++row) {
          const T *x = piece + row * channels + tile;
          for (size_t c = 0; c < kTile; ++c) {
            const A d = widen(x[c]) - first[c];
            s[c] += d;
            q[c] += d * d;
          }
        }
      } else {
        for (size_t row = block; row < last; ++row) {
          const T *x = piece + row * channels + tile;
          for (size_t c = 0; c < width; ++c) {
            const A d = widen(x[c]) - first[c];
            s[c] += d;
            q[c] += d * d;
          }
        }
      }
      for (size_t c = 0; c < width; ++c) {
        sum[tile + c] += s[c];
        square[tile + c] += q[c];
      }
    }
  }
}

template <typename T, typename A>
void forward(const T *piece, size_t channels, size_t begin, size_t end, const A *scale, const A *shift, T *out,
             size_t stride) {
  for (size_t row = begin; row < end; ++row) {
    const T *x = piece + row * channels;
    T *y = out + row * stride;
    for (size_t c = 0; c < channels; ++c) {
      const A value = widen(x[c]) * scale[c] + shift[c];
      narrow(value > 0 ? value : (value == value ? A(0) : value), y[c]);
    }
  }
}

// Sums of the gradient where ReLU let the value through, and of its product with (x - mean).
template <typename T, typename A>
void gradient_sums(const T *piece, size_t channels, size_t begin, size_t end, const A *scale, const A *shift,
                   const A *mean, const T *gradient, size_t stride, double *sum, double *product) {
  for (size_t block = begin; block < end; block += kRows) {
    const size_t last = block + kRows < end ? block + kRows : end;
    for (size_t tile = 0; tile < channels; tile += kTile) {
      const size_t width = channels - tile < kTile ? channels - tile : kTile;
      A s[kTile] = {}, q[kTile] = {}, a[kTile] = {}, b[kTile] = {}, m[kTile] = {};
      for (size_t c = 0; c < width; ++c) {
        a[c] = scale[tile + c];
        b[c] = shift[tile + c];
        m[c] = mean[tile + c];
      }
      if (width == kTile) {
        for (size_t row = block; row < last; ++row) {
          const T *x = piece + row * channels + tile;
          const T *g = gradient + row * stride + tile;
          for (size_t c = 0; c < kTile; ++c) {
            const A value = widen(x[c]);
            const A through = value * a[c] + b[c] > 0 ? A(widen(g[c])) : A(0);
            s[c] += through;
            q[c] += through * (value - m[c]);
          }
        }
      } else {
        for (size_t row = block; row < last; ++row) {
          const T *x = piece + row * channels + tile;
          const T *g = gradient + row * stride + tile;
          for (size_t c = 0; c < width; ++c) {
            const A value = widen(x[c]);
            const A through = value * a[c] + b[c] > 0 ? A(widen(g[c])) : A(0);
            s[c] += through;
            q[c] += through * (value - m[c]);
          }
        }
      }
      for (size_t c = 0; c < width; ++c) {
        sum[tile + c] += s[c];
        product[tile + c] += q[c];
      }
    }
  }
}

// scale × gradient where ReLU let the value through, + slope × x + offset.
template <typename T, typename A>
void backward(const T *piece, size_t channels, size_t begin, size_t end, const A *scale, const A *shift,
              const A *slope, const A *offset, const T *gradient, size_t stride, T *out) {
  for (size_t row = begin; row < end; ++row) {
    const T *x = piece + row * channels;
    const T *g = gradient + row * stride;
    T *y = out + row * channels;
    for (size_t c = 0; c < channels; ++c) {
      const A value = widen(x[c]);
      const A through = value * scale[c] + shift[c] > 0 ? A(widen(g[c])) : A(0);
      narrow(through * scale[c] + (value * slope[c] + offset[c]), y[c]);
    }
  }
}

// Adam's moments, updated, and in place of the gradient what is taken off the parameters once multiplied by the step size:
// one pass, with the operations and their order of the optimizer's own (`optimizer/rule.rs`), so with its bits.
inline float root(float value) { return __builtin_sqrtf(value); }
inline double root(double value) { return __builtin_sqrt(value); }

template <typename A>
void adam(A *first, A *second, A *gradient, size_t begin, size_t end, double beta1, double beta2, double epsilon,
          double correction) {
  const A toward = static_cast<A>(1.0 - beta1), keep = static_cast<A>(beta2), take = static_cast<A>(1.0 - beta2);
  const A small = static_cast<A>(epsilon), corrected = static_cast<A>(correction);
  for (size_t i = begin; i < end; ++i) {
    const A g = gradient[i];
    const A v = second[i] * keep + g * take * g;
    const A m = first[i] + (g - first[i]) * toward;
    first[i] = m;
    second[i] = v;
    gradient[i] = m / (root(v) / corrected + small);
  }
}

}  // namespace

#define EXPORT_ADAM(suffix, A)                                                                                        \
  extern "C" void NAME(ceteris_adam_##suffix)(void *first, void *second, void *gradient, size_t begin, size_t end,    \
                                              double beta1, double beta2, double epsilon, double correction) {        \
    adam<A>(static_cast<A *>(first), static_cast<A *>(second), static_cast<A *>(gradient), begin, end, beta1, beta2,  \
            epsilon, correction);                                                                                     \
  }

EXPORT_ADAM(fp64, double)
EXPORT_ADAM(fp32, float)

#define EXPORT(suffix, T, A)                                                                                          \
  extern "C" void NAME(ceteris_sums_##suffix)(const void *piece, size_t channels, size_t begin, size_t end,           \
                                              double *sum, double *square) {                                          \
    sums<T, A>(static_cast<const T *>(piece), channels, begin, end, sum, square);                                     \
  }                                                                                                                   \
  extern "C" void NAME(ceteris_forward_##suffix)(const void *piece, size_t channels, size_t begin, size_t end,        \
                                                 const A *scale, const A *shift, void *out, size_t stride) {          \
    forward<T, A>(static_cast<const T *>(piece), channels, begin, end, scale, shift, static_cast<T *>(out), stride);  \
  }                                                                                                                   \
  extern "C" void NAME(ceteris_gradient_sums_##suffix)(                                                               \
      const void *piece, size_t channels, size_t begin, size_t end, const A *scale, const A *shift, const A *mean,    \
      const void *gradient, size_t stride, double *sum, double *product) {                                            \
    gradient_sums<T, A>(static_cast<const T *>(piece), channels, begin, end, scale, shift, mean,                      \
                        static_cast<const T *>(gradient), stride, sum, product);                                      \
  }                                                                                                                   \
  extern "C" void NAME(ceteris_backward_##suffix)(                                                                    \
      const void *piece, size_t channels, size_t begin, size_t end, const A *scale, const A *shift, const A *slope,   \
      const A *offset, const void *gradient, size_t stride, void *out) {                                              \
    backward<T, A>(static_cast<const T *>(piece), channels, begin, end, scale, shift, slope, offset,                  \
                   static_cast<const T *>(gradient), stride, static_cast<T *>(out));                                  \
  }

EXPORT(fp64, double, double)
EXPORT(fp32, float, float)
EXPORT(bf16, bf16, float)
