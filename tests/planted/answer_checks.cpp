#include <unroll/autograd/fused.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/io/safetensors.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "checks.h"
#include "problem.h"

// Values and gradients that are known from elsewhere: PyTorch, the composed layer, differences, the definition.
namespace planted {
namespace {

/// PyTorch's, from the files beside this one.
struct Stored {
  std::string name;
  io::Safetensors content;
  std::map<std::string, std::string> option;
};

std::vector<Stored> load_stored() {
  std::vector<Stored> all;
  for (const auto& entry : std::filesystem::directory_iterator(UNROLL_PLANTED_CASES)) {
    Stored s{entry.path().stem(), io::load_safetensors(entry.path()), {}};
    for (const auto& [key, value] : s.content.metadata) s.option[key] = value;
    all.push_back(std::move(s));
  }
  std::ranges::sort(all, {}, &Stored::name);
  return all;
}

bool is_of(const Stored& s, Mode mode) {
  const std::string& module = s.option.at("module");
  if (module == "RNN") return mode == (s.option.at("nonlinearity") == "tanh" ? Mode::RNN : Mode::ReLU);
  return module == (mode == Mode::LSTM ? "LSTM" : mode == Mode::GRU ? "GRU" : "");
}

std::string check_stored(const Subject& subject, const Stored& s) {
  auto number = [&](const char* key) { return s.option.contains(key) ? std::stoll(s.option.at(key)) : 0; };
  auto flag = [&](const char* key) { return s.option.at(key) == "true"; };
  LayerOptions options{subject.mode,       number("input_size"), number("hidden_size"), number("num_layers"),
                       flag("bias"),       flag("batch_first"),  flag("bidirectional"), 0,
                       number("proj_size")};
  if (s.option.contains("dropout")) options.dropout = std::stod(s.option.at("dropout"));
  const auto layer = subject.make(options);

  std::map<std::string, Tensor> tensors;
  for (const auto& [name, tensor] : s.content.tensors) tensors[name] = tensor;
  auto given = [&](const std::string& name) { return tensors.at(name).to(DType::Float64); };
  const Tensor x = given("input").requires_grad_();
  Tensors leaves = {x}, state, cotangents, expected;
  std::vector<std::string> names = {"input"};
  for (const char* name : {"h0", "c0"})
    if (tensors.contains(name)) {
      state.push_back(given(name).requires_grad_());
      leaves.push_back(state.back());
      names.push_back(name);
    }
  for (const auto& [name, parameter] : layer->parameters()) {
    parameter.detach().copy_(given("param." + name));
    leaves.push_back(parameter);
    names.push_back("param." + name);
  }
  LengthList lengths;
  if (tensors.contains("lengths")) lengths = tensors.at("lengths").to_vector<std::int64_t>();
  if (s.option.contains("seed")) manual_seed(number("seed"));
  const Tensors outputs = (*layer)(x, state, lengths);

  const double tolerance = s.option.at("dtype") == "float64" ? 1e-11 : 3e-5;
  for (const char* name : {"output", "hn", "cn"})
    if (tensors.contains(std::string("weight.") + name)) {
      cotangents.push_back(given(std::string("weight.") + name));
      expected.push_back(given(std::string("expect.") + name));
    }
  if (std::string wrong = differ_outputs(outputs, expected, tolerance); !wrong.empty()) return wrong;
  expected.clear();
  for (const std::string& name : names) expected.push_back(given("expect.grad." + name));
  const bool twice = s.option.at("kind") == "double";
  const Tensors dx = gradients(outputs, cotangents, leaves, twice);
  std::string wrong = differ(dx, expected, names, tolerance);
  if (!wrong.empty() || !twice) return wrong;

  expected.clear(), cotangents.clear();
  for (const std::string& name : names) {
    cotangents.push_back(given("weight2." + name));
    expected.push_back(given("expect.grad2." + name));
  }
  wrong = differ(gradients(dx, cotangents, leaves), expected, names, 1e-9);
  return wrong.empty() ? wrong : "second derivative: " + wrong;
}

std::string stored_answers(const Subject& subject) {
  static const std::vector<Stored> all = load_stored();
  int found = 0;
  for (const Stored& s : all) {
    if (!is_of(s, subject.mode)) continue;
    ++found;
    if (std::string wrong = check_stored(subject, s); !wrong.empty()) return s.name + ": " + wrong;
  }
  return found == 0 ? "no stored case" : "";
}

/// The layer composed of recorded ops.
std::string composed_layer(const Subject& subject) {
  for (const Setting& setting : settings(subject.mode)) {
    const Problem p(subject.make, setting), q(real_layer, setting);
    const Tensors ys = p.outputs();
    Tensors expected_ys, expected;
    {
      FusedMode composed(false);
      expected_ys = q.outputs();
      expected = gradients(expected_ys, q.cotangents, q.leaves());
    }
    const std::string wrong =
        either(differ_outputs(ys, expected_ys), differ(gradients(ys, p.cotangents, p.leaves()), expected, p.names()));
    if (!wrong.empty()) return wrong;
  }
  return "";
}

/// A run of the layer as a function of the leaves, for gradcheck.
auto run_of(const Problem& p) {
  return [&p](const Tensors& in) {
    const auto states = in.begin() + 1 + static_cast<std::ptrdiff_t>(p.state.size());
    return p.outputs(in[0], Tensors(in.begin() + 1, states), p.lengths);
  };
}

GradcheckOptions gradcheck_options() {
  GradcheckOptions options;
  options.fast_mode = !thorough;
  options.fix_random = true;
  return options;
}

std::string finding(const GradcheckReport& report) { return report.ok() ? "" : report.findings[0].text; }

std::string differences(const Subject& subject) {
  for (Setting setting : settings(subject.mode)) {
    if (!thorough) setting.options.hidden_size = 2, setting.options.proj_size /= 2;
    const Problem p(subject.make, setting);
    GradcheckLabels labels{.batch = setting.N, .steps = setting.T, .dropout = setting.options.dropout};
    for (const std::string& name : p.names()) labels.inputs.push_back({name});
    if (auto wrong = finding(gradcheck_report(run_of(p), p.leaves(), gradcheck_options(), labels)); !wrong.empty())
      return wrong;
  }
  return "";
}

/// The gradient of the gradient.
std::string second_derivative(const Subject& subject) {
  Setting setting = strong(subject.mode);
  setting.options.num_layers = 2, setting.options.hidden_size = 2, setting.options.input_size = 1;
  setting.options.bidirectional = false;
  setting.T = 3, setting.N = 2, setting.lengths = {2, 3};
  const Problem p(subject.make, setting);
  return finding(gradgradcheck_report(run_of(p), p.leaves(), {}, gradcheck_options()));
}

/// The gradient that can be differentiated again is the gradient.
std::string under_create_graph(const Subject& subject) {
  for (const Setting& setting : settings(subject.mode)) {
    const Problem p(subject.make, setting);
    const Tensors without = gradients(p.outputs(), p.cotangents, p.leaves()),
                  with = gradients(p.outputs(), p.cotangents, p.leaves(), true);
    if (std::string wrong = differ(with, without, p.names()); !wrong.empty()) return wrong;
    for (std::size_t i = 0; i < with.size() && setting.T > 1; ++i)  // one step of relu has no second derivative
      if (!with[i].requires_grad()) return "the gradient of " + p.names()[i] + " has no history";
  }
  return "";
}

}  // namespace

bool gradcheck_passes(MakeLayer make, Mode mode, double scale) {
  Setting setting = strong(mode);
  setting.options.hidden_size = 2;
  const Problem p(make, setting);
  auto scaled = [run = run_of(p), scale](const Tensors& in) {
    Tensors outputs = run(in);
    // Transposed there and back, so that the factor does not hand back row-major gradients whatever came in.
    for (Tensor& y : outputs) y = transpose(transpose(y, 0, 1) * scale, 0, 1);
    return outputs;
  };
  return gradcheck_report(scaled, p.leaves(), gradcheck_options()).ok();
}

const std::vector<Check> kAnswerChecks = {{"stored", stored_answers},
                                          {"composed", composed_layer},
                                          {"gradcheck", differences},
                                          {"create_graph", under_create_graph}};

const std::vector<Check> kSecondChecks = {{"second", second_derivative}};

}  // namespace planted
