#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

/// ln, sin and cos of double numbers, to the bit as the GNU C library has them since 2.28 on CPUs with FMA. That is
/// what PyTorch's float64 normals are made of; the library's own functions give other last bits where there is no FMA.
///
/// The methods are those of ARM's optimized routines (S. Nagy, MIT licence) for the logarithm and of IBM's Accurate
/// Mathematical Library for the others: a table brings the argument close to 0, a short polynomial does the rest. All
/// are always inlined, so that a caller compiled for a CPU with FMA has it everywhere.
namespace unroll::kernels::math {

/// What the functions look up. The points of the logarithm's table are rounded reciprocals of the middles of its
/// intervals, each moved by up to 2²⁹ last places to where its logarithm is nearly a multiple of 2⁻⁴³; so the moves are
/// all that has to be stored.
class Tables {
 public:
  struct Point {
    double inverse, log;  // 1/c and ln c
  };
  struct Angle {
    double sin, sin_rest, cos, cos_rest;  // each with what its rounding left over
  };

  static const Tables& get() {
    static const Tables tables;
    return tables;
  }

  /// For 2⁷ intervals between kFirst and twice that.
  std::array<Point, 128> points;
  /// For 0, 1/128, 2/128, …
  std::array<Angle, 110> angles;
  static constexpr std::uint64_t kFirst = 0x3fe6000000000000;  // the bits of 11/16

 private:
  Tables() {
    static constexpr std::array<std::int32_t, 128> kMoves = {
        -23142382,  -57643754,  -234334839, -124664804, 19045012,   -123323398, -501163255, 342479926,  -234593306,
        57421184,   513617488,  -240891478, 85169741,   28659150,   284053799,  342563057,  -68420459,  -346144712,
        -90113766,  -464022980, 285342708,  -489548825, 376054848,  47397812,   -423637851, -260988534, 336107021,
        448241578,  154177355,  447893384,  241227555,  -420636714, -218426730, -96876684,  -205835218, -368178198,
        -345128710, -510284502, 481763731,  209336112,  429336310,  15489329,   442353177,  -417834330, 73183371,
        515232680,  507984536,  83787275,   330409952,  151596684,  377744204,  198302857,  214798271,  -345957716,
        356163107,  215510022,  -229897960, -131709726, 215213618,  -464519207, -332821996, 385780520,  -400344786,
        256208139,  478356527,  345720337,  128466877,  217515751,  -162048343, 295127580,  -235892775, -69369347,
        93666841,   -272860130, 91915174,   29018059,   258893229,  386009280,  -241633007, 68399381,   386341370,
        408940642,  65060217,   -120872168, 189498853,  -32395328,  -49955913,  154042178,  -346113480, 148348366,
        -396488327, -427431396, 107119491,  -500798201, 212184347,  305888811,  -330297730, -91422864,  6707636,
        273897542,  -512931067, -500150233, 485589437,  -280752730, 106848032,  30953893,   -291342514, -408884927,
        149302919,  -107851081, 225432558,  460497078,  -452391632, -490679353, 508304210,  493208081,  336502878,
        526975298,  -457361038, -312310462, -365194252, -421357131, 362015322,  310793228,  -441535439, -69145545,
        -528727990, 433364383};
    for (std::size_t i = 0; i < points.size(); ++i) {
      double middle = std::bit_cast<double>(kFirst + ((2 * i + 1) << 44));
      double inverse = std::bit_cast<double>(std::bit_cast<std::int64_t>(1 / middle) + kMoves[i]);
      points[i] = {inverse, std::nearbyint(-std::log(inverse) * 0x1p43) * 0x1p-43};
    }
    for (std::size_t i = 0; i < angles.size(); ++i) angles[i] = angle(static_cast<unsigned>(i));
  }

  // The series of both functions in fixed point, 120 bits behind the point.
  static Angle angle(unsigned i) {
    __extension__ using Fixed = unsigned __int128;
    __extension__ using Signed = __int128;
    Fixed sine = 0, cosine = 0, term = Fixed{1} << 120;  // (i / 128)ⁿ / n!
    for (unsigned n = 0; term != 0; ++n) {
      Fixed& sum = n & 1 ? sine : cosine;
      sum = n & 2 ? sum - term : sum + term;
      term = term * i / (128 * (n + 1));
    }
    auto scaled = [](Fixed x) { return static_cast<double>(x) * 0x1p-120; };
    auto rest = [](Fixed x) {
      return static_cast<double>(static_cast<Signed>(x - static_cast<Fixed>(static_cast<double>(x)))) * 0x1p-120;
    };
    return {scaled(sine), rest(sine), scaled(cosine), rest(cosine)};
  }
};

/// ln x for a normal x > 0.
[[gnu::always_inline]] inline double log(double x, const Tables& tables) {
  auto bits = std::bit_cast<std::uint64_t>(x);
  if (bits - 0x3fee000000000000 < 0x0003090000000000) {  // close to 1, where ln x is small: one polynomial, no table
    static constexpr double kB[] = {-0x1.0000000000000p-1, 0x1.5555555555577p-2,  -0x1.ffffffffffdcbp-3,
                                    0x1.999999995dd0cp-3,  -0x1.55555556745a7p-3, 0x1.24924a344de30p-3,
                                    -0x1.fffffa4423d65p-4, 0x1.c7184282ad6cap-4,  -0x1.999eb43b068ffp-4,
                                    0x1.78182f7afd085p-4,  -0x1.5521375d145cdp-4};
    double r = x - 1, rr = r * r, rrr = r * rr;
    double low = std::fma(rr, kB[3], std::fma(r, kB[2], kB[1]));
    double middle = std::fma(rr, kB[6], std::fma(r, kB[5], kB[4]));
    double high = std::fma(rrr, kB[10], std::fma(rr, kB[9], std::fma(r, kB[8], kB[7])));
    double p = std::fma(std::fma(high, rrr, middle), rrr, low);
    // r - r²/2 as the sum of two numbers: the upper half of r has an exact square.
    double upper = std::fma(-0x1p27, r, std::fma(r, 0x1p27, r)), square = upper * upper;
    double sum = std::fma(square, kB[0], r);
    double rest = std::fma(kB[0] * (r - upper), upper + r, std::fma(square, kB[0], r - sum));
    return sum + std::fma(p, rrr, rest);
  }
  static constexpr double kLn2High = 0x1.62e42fefa3800p-1, kLn2Low = 0x1.ef35793c76730p-45;
  static constexpr double kA[] = {-0x1.0000000000001p-1, 0x1.555555551305bp-2, -0x1.fffffffeb4590p-3,
                                  0x1.999b324f10111p-3, -0x1.55575e506c89fp-3};
  // x = 2^e z with z in [11/16, 11/8), and z = c (1 + r): ln x = e ln 2 + ln c + ln(1 + r).
  std::uint64_t from_first = bits - Tables::kFirst;
  const Tables::Point& point = tables.points[from_first >> 45 & 127];
  double z = std::bit_cast<double>(bits - (from_first & 0xfff0000000000000));
  auto e = static_cast<double>(static_cast<std::int64_t>(from_first) >> 52);
  double r = std::fma(z, point.inverse, -1.0), rr = r * r;
  double w = std::fma(e, kLn2High, point.log), sum = r + w;
  double rest = std::fma(rr, kA[0], std::fma(e, kLn2Low, w - sum + r));
  double p = std::fma(std::fma(r, kA[4], kA[3]), rr, std::fma(r, kA[2], kA[1]));
  return std::fma(r * rr, p, rest) + sum;
}

/// Of x + dx, where |x| is less than 0.8555 and dx is what rounding x left over.
struct NearZero {
  const Tables& tables;

  static constexpr double kRound = 0x1.8p45;  // added to a number, leaves a multiple of 1/128
  static constexpr double kSin3 = -0x1.5555555555515p-3, kSin5 = 0x1.11110e829872fp-7;
  static constexpr double kCos2 = 0.5, kCos4 = -0x1.5555555555535p-5, kCos6 = 0x1.6c16bedd9e239p-10;

  // 1 - cos x = x² (…)
  [[gnu::always_inline]] static double one_minus_cos(double xx) {
    return std::fma(xx, std::fma(xx, kCos6, kCos4), kCos2);
  }
  [[gnu::always_inline]] const Tables::Angle& angle(double rounded) const {
    return tables.angles[static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(rounded))];
  }

  [[gnu::always_inline]] double sin(double x, double dx) const {
    double size = std::abs(x);
    if (size < 0.126) {
      static constexpr double kS[] = {-0x1.addffc2fcdf59p-26, 0x1.71de27b9a7ed9p-19, -0x1.a01a019db08b8p-13,
                                      0x1.1111111110ecep-7, -0x1.5555555555555p-3};
      double xx = x * x, p = kS[0];
      for (int i = 1; i < 5; ++i) p = std::fma(p, xx, kS[i]);
      return std::fma(xx, std::fma(p, x, -(0.5 * dx)), dx) + x;
    }
    double d = x > 0 ? dx : -dx, rounded = kRound + size;
    const Tables::Angle& a = angle(rounded);
    double y = size - (rounded - kRound), yy = y * y;  // sin(a + y) = sin a cos y + cos a sin y
    double s = y + std::fma(y * yy, std::fma(yy, kSin5, kSin3), d);
    double c = std::fma(y, d, yy * one_minus_cos(yy));
    double rest = std::fma(s, a.cos, std::fma(-c, a.sin, std::fma(s, a.cos_rest, a.sin_rest)));
    return std::copysign(a.sin + rest, x);
  }

  [[gnu::always_inline]] double cos(double x, double dx) const {
    double size = std::abs(x), rounded = kRound + size;
    const Tables::Angle& a = angle(rounded);
    double y = size - (rounded - kRound) + (x < 0 ? -dx : dx), yy = y * y;
    double s = std::fma(y * yy, std::fma(yy, kSin5, kSin3), y);
    double c = yy * one_minus_cos(yy);
    return a.cos + std::fma(-s, a.sin, std::fma(-c, a.cos, std::fma(-s, a.sin_rest, a.cos_rest)));
  }
};

struct SinCos {
  double sin, cos;
};

/// For x in [0, 2 pi].
[[gnu::always_inline]] inline SinCos sincos(double x, const Tables& tables) {
  static constexpr double kHalfPi = 0x1.921fb54442d18p+0, kHalfPiRest = 0x1.1a62633145c07p-54;
  NearZero near{tables};
  if (x < 0x1.b6p-1) return {x < 0x1p-26 ? x : near.sin(x, 0), x < 0x1p-27 ? 1 : near.cos(x, 0)};
  if (x < 0x1.368fdp+1) {
    double y = kHalfPi - x, a = y + kHalfPiRest;
    return {near.cos(y, kHalfPiRest), near.sin(a, y - a + kHalfPiRest)};
  }
  // x - n pi/2, with pi/2 in four parts.
  static constexpr double kParts[] = {0x1.921fb58p+0, -0x1.dde973cp-27, -0x1.cb3b398p-55, -0x1.d747f23e32ed7p-83};
  double shifted = std::fma(x, 0x1.45f306dc9c883p-1, 0x1.8p52), n = shifted - 0x1.8p52;
  double t = std::fma(-n, kParts[1], std::fma(-n, kParts[0], x));
  double b = std::fma(-n, kParts[2], t), db = std::fma(-n, kParts[2], t - b);
  double a = std::fma(-n, kParts[3], b), da = db + std::fma(-n, kParts[3], b - a);
  double s = near.sin(a, da), c = near.cos(a, da);
  switch (std::bit_cast<std::uint64_t>(shifted) & 3) {
    case 0:
      return {s, c};
    case 1:
      return {c, -s};
    case 2:
      return {-s, -c};
    default:
      return {-c, s};
  }
}

}  // namespace unroll::kernels::math
