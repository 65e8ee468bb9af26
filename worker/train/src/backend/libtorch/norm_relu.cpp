// Concatenation, batch normalisation, ReLU and, if there is a weight, the convolution that follows, as one operation
// under libtorch's autograd, on the processor.
//
// It keeps what it reads and the normalisation's two numbers a channel, and makes the normalised activation again in
// backward: a pass over memory in place of two tensors that would be kept for every layer (after Pleiss et al.,
// "Memory-Efficient Implementation of DenseNets", 2017).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The kernels of one instruction set, for values of type T that are computed with in type A.
template <typename A>
struct Kernels {
  void (*sums)(const void *, size_t, size_t, size_t, double *, double *);
  void (*forward)(const void *, size_t, size_t, size_t, const A *, const A *, void *, size_t);
  void (*gradient_sums)(const void *, size_t, size_t, size_t, const A *, const A *, const A *, const void *, size_t,
                        double *, double *);
  void (*backward)(const void *, size_t, size_t, size_t, const A *, const A *, const A *, const A *, const void *,
                   size_t, void *);
};

}  // namespace

#define DECLARE(suffix, A, capability)                                                                                \
  extern "C" {                                                                                                        \
  void ceteris_sums_##suffix##_##capability(const void *, size_t, size_t, size_t, double *, double *);                \
  void ceteris_forward_##suffix##_##capability(const void *, size_t, size_t, size_t, const A *, const A *, void *,    \
                                               size_t);                                                               \
  void ceteris_gradient_sums_##suffix##_##capability(const void *, size_t, size_t, size_t, const A *, const A *,      \
                                                     const A *, const void *, size_t, double *, double *);            \
  void ceteris_backward_##suffix##_##capability(const void *, size_t, size_t, size_t, const A *, const A *,           \
                                                const A *, const A *, const void *, size_t, void *);                  \
  }
#define KERNELS(suffix, A, capability)                                                                                \
  Kernels<A> {                                                                                                        \
    ceteris_sums_##suffix##_##capability, ceteris_forward_##suffix##_##capability,                                    \
        ceteris_gradient_sums_##suffix##_##capability, ceteris_backward_##suffix##_##capability                       \
  }
#define DECLARE_ALL(capability)                                                                                       \
  DECLARE(fp64, double, capability) DECLARE(fp32, float, capability) DECLARE(bf16, float, capability)

DECLARE_ALL(scalar)
#ifdef CETERIS_X86
DECLARE_ALL(avx2)
DECLARE_ALL(avx512)
#define SELECT(suffix, A)                                                                                             \
  (capability() == "AVX512" ? KERNELS(suffix, A, avx512)                                                              \
                            : capability() == "AVX2" ? KERNELS(suffix, A, avx2) : KERNELS(suffix, A, scalar))
#else
#define SELECT(suffix, A) KERNELS(suffix, A, scalar)
#endif

namespace {

// The instruction set that libtorch's own kernels use.
const std::string &capability() {
  static const std::string name = at::get_cpu_capability();
  return name;
}

// What a call does besides its tensors.
struct Settings {
  bool training;
  double momentum;
  double epsilon;
  int64_t padding;
};

// Runs `body(thread, begin, end)` on equal shares of the rows: how sums are split depends on the number of threads alone.
template <typename F>
void on_shares(size_t rows, const F &body) {
  const size_t threads = static_cast<size_t>(at::get_num_threads());
  const size_t share = (rows + threads - 1) / threads;
  at::parallel_for(0, static_cast<int64_t>(threads), 1, [&](int64_t from, int64_t to) {
    for (size_t thread = from; thread < static_cast<size_t>(to); ++thread) {
      const size_t begin = thread * share, end = std::min(rows, begin + share);
      if (begin < end) body(thread, begin, end);
    }
  });
}

// Activations whose channels are read as if they were one tensor's.
struct Pieces {
  explicit Pieces(at::TensorList tensors) {
    for (const Tensor &tensor : tensors) {
      list.push_back(tensor.contiguous(at::MemoryFormat::ChannelsLast));
      starts.push_back(channels);
      channels += static_cast<size_t>(tensor.size(1));
    }
    rows = static_cast<size_t>(list[0].size(0) * list[0].size(2) * list[0].size(3));
  }

  Tensor like(int64_t width) const {
    const Tensor &first = list[0];
    return at::empty({first.size(0), width, first.size(2), first.size(3)},
                     first.options().memory_format(at::MemoryFormat::ChannelsLast));
  }

  std::vector<Tensor> list;
  std::vector<size_t> starts;
  size_t channels = 0;
  size_t rows = 0;
};

template <typename A>
std::vector<A> values(const Tensor &tensor) {
  const Tensor copy = tensor.to(c10::CppTypeToScalarType<A>::value).contiguous();
  return std::vector<A>(copy.data_ptr<A>(), copy.data_ptr<A>() + copy.numel());
}

template <typename A>
Tensor tensor_of(const std::vector<A> &values, const Tensor &like) {
  Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, like.options());
  tensor.copy_(at::from_blob(const_cast<A *>(values.data()), {static_cast<int64_t>(values.size())},
                             at::TensorOptions().dtype(c10::CppTypeToScalarType<A>::value)));
  return tensor;
}

// A channel's mean and 1 / deviation, and from them what its values are multiplied with and what is added.
template <typename A>
struct Norm {
  std::vector<A> mean, inverse, scale, shift;

  void apply(const std::vector<A> &weight, const std::vector<A> &bias) {
    scale.resize(mean.size());
    shift.resize(mean.size());
    for (size_t c = 0; c < mean.size(); ++c) {
      scale[c] = weight[c] * inverse[c];
      shift[c] = bias[c] - mean[c] * scale[c];
    }
  }
};

// First value of each channel: what sums are taken about.
double first_value(const Tensor &tensor, size_t channel) {
  switch (tensor.scalar_type()) {
    case at::kDouble: return tensor.const_data_ptr<double>()[channel];
    case at::kFloat: return tensor.const_data_ptr<float>()[channel];
    default: return static_cast<float>(tensor.const_data_ptr<at::BFloat16>()[channel]);
  }
}

// Mean and biased variance of each channel.
template <typename A>
void statistics(const Kernels<A> &kernels, const Pieces &pieces, std::vector<double> &mean,
                std::vector<double> &variance) {
  const size_t channels = pieces.channels, threads = static_cast<size_t>(at::get_num_threads());
  std::vector<double> sum(threads * channels), square(threads * channels);
  on_shares(pieces.rows, [&](size_t thread, size_t begin, size_t end) {
    for (size_t piece = 0; piece < pieces.list.size(); ++piece) {
      const size_t at = thread * channels + pieces.starts[piece];
      const Tensor &tensor = pieces.list[piece];
      kernels.sums(tensor.const_data_ptr(), static_cast<size_t>(tensor.size(1)), begin, end, &sum[at], &square[at]);
    }
  });
  mean.resize(channels);
  variance.resize(channels);
  const double rows = static_cast<double>(pieces.rows);
  for (size_t piece = 0; piece < pieces.list.size(); ++piece) {
    const Tensor &tensor = pieces.list[piece];
    for (size_t own = 0; own < static_cast<size_t>(tensor.size(1)); ++own) {
      const size_t c = pieces.starts[piece] + own;
      for (size_t thread = 1; thread < threads; ++thread) {
        sum[c] += sum[thread * channels + c];
        square[c] += square[thread * channels + c];
      }
      const double off = sum[c] / rows;
      mean[c] = first_value(tensor, own) + off;
      variance[c] = std::max(0.0, square[c] / rows - off * off);
    }
  }
}

// running ← (1 - momentum) × running + momentum × new, in place. As libtorch's own normalisation does it: autograd does
// not count it as a change, because nothing that is differentiated reads it.
void update(const Tensor &running, const std::vector<double> &fresh, double factor, double momentum) {
  Tensor target = running.data();
  const Tensor now = tensor_of(fresh, running.to(at::kDouble)).mul_(factor * momentum).to(running.scalar_type());
  target.mul_(1.0 - momentum).add_(now);
}

template <typename A>
Tensor activation(const Kernels<A> &kernels, const Pieces &pieces, const Norm<A> &norm) {
  Tensor out = pieces.like(static_cast<int64_t>(pieces.channels));
  char *data = static_cast<char *>(out.mutable_data_ptr());
  const size_t width = out.element_size();
  on_shares(pieces.rows, [&](size_t, size_t begin, size_t end) {
    // Few rows at a time, so that a row's pieces are written while it is in the cache.
    constexpr size_t kBlock = 16;
    for (size_t block = begin; block < end; block += kBlock) {
      const size_t last = std::min(end, block + kBlock);
      for (size_t piece = 0; piece < pieces.list.size(); ++piece) {
        const Tensor &tensor = pieces.list[piece];
        const size_t start = pieces.starts[piece];
        kernels.forward(tensor.const_data_ptr(), static_cast<size_t>(tensor.size(1)), block, last, &norm.scale[start],
                        &norm.shift[start], data + start * width, pieces.channels);
      }
    }
  });
  return out;
}

Tensor weight_for(const Tensor &weight, const Tensor &input) {
  return weight.to(input.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
}

template <typename A>
struct Call {
  Kernels<A> kernels;
  Settings settings;

  Norm<A> normalise(const Pieces &pieces, const Tensor &weight, const Tensor &bias, const Tensor &mean,
                    const Tensor &variance, bool updates) const {
    Norm<A> norm;
    std::vector<double> means, variances;
    if (settings.training) {
      statistics(kernels, pieces, means, variances);
      if (updates) {
        const double rows = static_cast<double>(pieces.rows);
        update(mean, means, 1.0, settings.momentum);
        update(variance, variances, rows / (rows - 1.0), settings.momentum);
      }
    } else {
      means = values<double>(mean);
      variances = values<double>(variance);
    }
    for (size_t c = 0; c < means.size(); ++c) {
      norm.mean.push_back(static_cast<A>(means[c]));
      norm.inverse.push_back(static_cast<A>(1.0 / std::sqrt(variances[c] + settings.epsilon)));
    }
    norm.apply(values<A>(weight), values<A>(bias));
    return norm;
  }

  // Gradients of the pieces, of the normalisation's weight and of its bias.
  variable_list differentiate(const Pieces &pieces, const Norm<A> &norm, const Tensor &gradient,
                              const Tensor &like) const {
    const Tensor given = gradient.contiguous(at::MemoryFormat::ChannelsLast);
    const char *data = static_cast<const char *>(given.const_data_ptr());
    const size_t width = given.element_size(), channels = pieces.channels;
    const size_t threads = static_cast<size_t>(at::get_num_threads());
    std::vector<double> sum(threads * channels), product(threads * channels);
    on_shares(pieces.rows, [&](size_t thread, size_t begin, size_t end) {
      for (size_t piece = 0; piece < pieces.list.size(); ++piece) {
        const Tensor &tensor = pieces.list[piece];
        const size_t start = pieces.starts[piece], at = thread * channels + start;
        kernels.gradient_sums(tensor.const_data_ptr(), static_cast<size_t>(tensor.size(1)), begin, end,
                              &norm.scale[start], &norm.shift[start], &norm.mean[start], data + start * width,
                              channels, &sum[at], &product[at]);
      }
    });
    std::vector<double> of_weight(channels), of_bias(channels);
    std::vector<A> slope(channels), offset(channels);
    const double rows = static_cast<double>(pieces.rows);
    for (size_t c = 0; c < channels; ++c) {
      for (size_t thread = 0; thread < threads; ++thread) {
        of_bias[c] += sum[thread * channels + c];
        of_weight[c] += product[thread * channels + c];
      }
      of_weight[c] *= norm.inverse[c];
      if (settings.training) {
        const double by_value = -norm.scale[c] * static_cast<double>(norm.inverse[c]) * of_weight[c] / rows;
        slope[c] = static_cast<A>(by_value);
        offset[c] = static_cast<A>(-norm.scale[c] * of_bias[c] / rows - by_value * norm.mean[c]);
      }
    }
    variable_list gradients;
    for (const Tensor &tensor : pieces.list) gradients.push_back(pieces.like(tensor.size(1)));
    on_shares(pieces.rows, [&](size_t, size_t begin, size_t end) {
      constexpr size_t kBlock = 16;
      for (size_t block = begin; block < end; block += kBlock) {
        const size_t last = std::min(end, block + kBlock);
        for (size_t piece = 0; piece < pieces.list.size(); ++piece) {
          const Tensor &tensor = pieces.list[piece];
          const size_t start = pieces.starts[piece];
          kernels.backward(tensor.const_data_ptr(), static_cast<size_t>(tensor.size(1)), block, last,
                           &norm.scale[start], &norm.shift[start], &slope[start], &offset[start],
                           data + start * width, channels, gradients[piece].mutable_data_ptr());
        }
      }
    });
    gradients.push_back(tensor_of(of_weight, like));
    gradients.push_back(tensor_of(of_bias, like));
    return gradients;
  }
};

// Calls `body` with the kernels of the tensor's type.
template <typename F>
auto with_kernels(const Tensor &tensor, const Settings &settings, const F &body) {
  switch (tensor.scalar_type()) {
    case at::kDouble: return body(Call<double>{SELECT(fp64, double), settings});
    case at::kFloat: return body(Call<float>{SELECT(fp32, float), settings});
    case at::kBFloat16: return body(Call<float>{SELECT(bf16, float), settings});
    default: TORCH_CHECK(false, "activations are fp64, fp32 or bf16");
  }
}

struct NormReluConvolution : torch::autograd::Function<NormReluConvolution> {
  static Tensor forward(AutogradContext *context, at::TensorList inputs, const Tensor &weight, const Tensor &bias,
                        const std::optional<Tensor> &kernel, const Tensor &mean, const Tensor &variance,
                        bool updates, Settings settings) {
    const Pieces pieces(inputs);
    return with_kernels(inputs[0], settings, [&](auto call) {
      const auto norm = call.normalise(pieces, weight, bias, mean, variance, updates);
      Tensor out = activation(call.kernels, pieces, norm);
      if (kernel) {
        out = at::conv2d(out, weight_for(*kernel, out), {}, 1, settings.padding);
      }
      variable_list saved = pieces.list;
      saved.insert(saved.end(), {weight, bias, kernel.value_or(Tensor()), tensor_of(norm.mean, weight.to(at::kDouble)),
                                 tensor_of(norm.inverse, weight.to(at::kDouble))});
      context->save_for_backward(std::move(saved));
      context->saved_data["training"] = settings.training;
      context->saved_data["padding"] = settings.padding;
      return out;
    });
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    variable_list saved = context->get_saved_variables();
    const size_t count = saved.size() - 5;
    const Tensor &weight = saved[count], &bias = saved[count + 1], &kernel = saved[count + 2];
    const Settings settings{context->saved_data["training"].toBool(), 0, 0, context->saved_data["padding"].toInt()};
    const Pieces pieces(at::TensorList(saved.data(), count));
    return with_kernels(saved[0], settings, [&](auto call) {
      using A = typename decltype(call.normalise(pieces, weight, bias, bias, bias, false).mean)::value_type;
      Norm<A> norm;
      norm.mean = values<A>(saved[count + 3]);
      norm.inverse = values<A>(saved[count + 4]);
      norm.apply(values<A>(weight), values<A>(bias));
      Tensor gradient = gradients[0], of_kernel;
      if (kernel.defined()) {
        const Tensor again = activation(call.kernels, pieces, norm);
        const auto made = at::convolution_backward(gradient, again, weight_for(kernel, again), std::nullopt, {1, 1},
                                                   {settings.padding, settings.padding}, {1, 1}, false, {0, 0}, 1,
                                                   {true, true, false});
        gradient = std::get<0>(made);
        of_kernel = std::get<1>(made).to(kernel.scalar_type());
      }
      variable_list all = call.differentiate(pieces, norm, gradient, weight);
      all.insert(all.end(), {of_kernel, Tensor(), Tensor(), Tensor(), Tensor()});
      return all;
    });
  }
};

}  // namespace

// `*out` becomes a new tensor. `kernel` may be null: then there is no convolution. Returns 0, or 1 with the reason, cut
// to `length` bytes and ended by a zero, in `reason`.
extern "C" int ceteris_norm_relu_convolution(Tensor **out, const Tensor *const *inputs, size_t count,
                                             const Tensor *weight, const Tensor *bias, const Tensor *mean,
                                             const Tensor *variance, const Tensor *kernel, int training, int updates,
                                             double momentum, double epsilon, int64_t padding, char *reason,
                                             size_t length) {
  try {
    std::vector<Tensor> list;
    for (size_t index = 0; index < count; ++index) list.push_back(*inputs[index]);
    const Settings settings{training != 0, momentum, epsilon, padding};
    *out = new Tensor(NormReluConvolution::apply(at::TensorList(list), *weight, *bias, kernel ? std::make_optional(*kernel) : std::nullopt,
                                                 *mean, *variance, updates != 0, settings));
    return 0;
  } catch (const std::exception &error) {
    std::strncpy(reason, error.what(), length - 1);
    reason[length - 1] = 0;
    return 1;
  }
}
