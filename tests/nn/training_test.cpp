#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/clip_grad.h>
#include <unroll/nn/embedding.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/optim/adam.h>

using namespace unroll;

// Whole runs against the losses that PyTorch 2.15 has from the same seed.
namespace {
void check_curve(const std::vector<double>& losses, const std::vector<double>& expected, double bound) {
  REQUIRE(losses.size() == expected.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    CAPTURE(i);
    CHECK(losses[i] == doctest::Approx(expected[i]).epsilon(bound));
  }
}

std::vector<double> sine_losses(DType dtype) {
  manual_seed(0);
  nn::GRU rnn(1, 8, {.dtype = dtype});
  nn::Linear head(8, 1, {.dtype = dtype});
  Tensor wave = sin(arange(0, 10.25, 0.25, DType::Float64)).to(dtype);
  Tensor x = view(narrow(wave, 0, 0, 40), {40, 1, 1}), y = view(narrow(wave, 0, 1, 40), {40, 1, 1});
  std::vector<Tensor> parameters = rnn.parameters();
  for (const Tensor& p : head.parameters()) parameters.push_back(p);
  optim::Adam adam(parameters, {.lr = 0.01});
  std::vector<double> losses;
  for (int step = 0; step < 50; ++step) {
    adam.zero_grad();
    Tensor loss = mse_loss(head(rnn(x).output), y);
    loss.backward();
    adam.step();
    losses.push_back(loss.item());
  }
  return losses;
}
}  // namespace

TEST_CASE("training: a GRU on a sine, fifty steps of Adam, in float64 and float32") {
  check_curve(sine_losses(DType::Float64),
              {0.624692932526318,   0.554781968365454,   0.497605881554067,   0.451683697268356,   0.415115527919571,
               0.385746538257845,   0.361275759580674,   0.339450324786671,   0.31843516658593,    0.297104128513372,
               0.275034299216254,   0.25230579315005,    0.229287315927865,   0.206488340277515,   0.184479134863153,
               0.163836367911942,   0.14507790283122,    0.128568424966505,   0.114393335781555,   0.102257449083881,
               0.0915365335420707,  0.0815461896361977,  0.071883699591395,   0.0625894739013946,  0.0539838432265802,
               0.0463082352388447,  0.0394947169458605,  0.0332368208245693,  0.0272061270706705,  0.0212804911559231,
               0.0156755025843596,  0.0108682657856869,  0.00733307944305567, 0.00523331157297619, 0.00427154908443994,
               0.00385199965089321, 0.00347691098898287, 0.0030366830200338,  0.00274429134754761, 0.00282388523667653,
               0.00324883378133496, 0.00374467619914021, 0.00403293241899339, 0.00406281219273209, 0.00399809472636853,
               0.00398911772002766, 0.00398555764091215, 0.00380182291349578, 0.00334971254369688, 0.00275295572869247},
              1e-9);
  check_curve(
      sine_losses(DType::Float32),
      {0.826096237,  0.75324142,   0.686631501,  0.624272346,  0.565093398,  0.508852124,  0.455688328,  0.405885458,
       0.359836936,  0.318067312,  0.281237066,  0.250089139,  0.22530742,   0.207254097,  0.195571497,  0.188812152,
       0.184610456,  0.180570036,  0.17503354,   0.167286366,  0.157391265,  0.145902872,  0.13359651,   0.121262431,
       0.109573469,  0.0990162641, 0.0898708925, 0.0822239146, 0.0760014579, 0.0710118487, 0.0669908822, 0.063644968,
       0.0606892034, 0.0578778982, 0.0550257638, 0.052018702,  0.048814144,  0.0454322062, 0.0419398174, 0.0384306796,
       0.0350042991, 0.0317469724, 0.0287176967, 0.0259407461, 0.0234060697, 0.0210772119, 0.018904997,  0.0168437585,
       0.0148661407, 0.0129722161},
      1e-5);
}

TEST_CASE("training: characters through Embedding and two layers of LSTM with dropout, gradients clipped") {
  manual_seed(0);
  const DType dtype = DType::Float64;
  nn::Embedding embed(11, 6, {.dtype = dtype});
  nn::LSTM rnn(6, 10, {.num_layers = 2, .dropout = 0.2, .dtype = dtype});
  nn::Linear head(10, 11, {.dtype = dtype});
  std::vector<std::int64_t> text;
  for (std::int64_t i = 0; i < 97; ++i) text.push_back((i * i + 3 * i) % 11);
  const Tensor all = from_data(text, 97);
  Tensor x = t(view(narrow(all, 0, 0, 96), {8, 12})), y = t(view(narrow(all, 0, 1, 96), {8, 12}));  // (T, N)
  std::vector<Tensor> parameters;
  for (const nn::Module* module : std::initializer_list<const nn::Module*>{&embed, &rnn, &head})
    for (const Tensor& p : module->parameters()) parameters.push_back(p);
  optim::Adam adam(parameters, {.lr = 0.02});
  std::vector<double> losses;
  for (int step = 0; step < 20; ++step) {
    adam.zero_grad();
    Tensor loss = cross_entropy(reshape(head(rnn(embed(x)).output), {-1, 11}), reshape(y, {-1}));
    loss.backward();
    nn::clip_grad_norm_(parameters, 1);
    adam.step();
    losses.push_back(loss.item());
  }
  check_curve(losses, {2.39243021394829, 2.334461593831,   2.27938341122119, 2.22361369416588, 2.15785718290324,
                       2.08171279532581, 2.01381880356525, 1.95627351290193, 1.90913695182783, 1.86895520748943,
                       1.83003146885227, 1.79892477010429, 1.77516622710205, 1.76206049393003, 1.73714537937573,
                       1.72621796781501, 1.70364120512318, 1.67004066583931, 1.64241444805904, 1.62162228063111},
              1e-9);
}
