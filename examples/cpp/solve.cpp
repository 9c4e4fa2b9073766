// A grid with an obstacle and an open surface, solved by a relaxon server; the residual is recomputed here.
//
//   build/solve [HOST:PORT]
//
// The exit status is 0 where the answer meets the tolerance by this file's own arithmetic, and 1 where not.
#include "relaxon.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

using relaxon::kAir, relaxon::kFluid, relaxon::kSolid;

constexpr std::array<long, 3> kShape = {96, 64, 48};
constexpr std::size_t kCells = 96 * 64 * 48;
constexpr double kWidth = 1.0 / 96, kRtol = 1e-8;

// ‖b − A x‖ / ‖b‖, from the flux through every face between cells: none through solids; air has the value 0.
double relative_residual(const std::vector<std::uint8_t>& cells, const std::vector<double>& b,
                         const std::vector<double>& x) {
  const std::array<long, 3> strides = {kShape[1] * kShape[2], kShape[2], 1};
  double left = 0, right = 0;
  for (long i = 0; i < static_cast<long>(cells.size()); ++i) {
    if (cells[i] != kFluid) continue;
    double outflow = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const long place = i / strides[axis] % kShape[axis];
      for (long step : {-1L, 1L}) {
        if (place + step < 0 || place + step >= kShape[axis]) continue;  // a wall
        const long other = i + step * strides[axis];
        if (cells[other] != kSolid) outflow += (x[i] - (cells[other] == kAir ? 0.0 : x[other])) / (kWidth * kWidth);
      }
    }
    left += (b[i] - outflow) * (b[i] - outflow);
    right += b[i] * b[i];
  }
  return std::sqrt(left / right);
}

int main(int argc, char** argv) try {
  std::vector<std::uint8_t> cells(kCells, kFluid);
  std::vector<double> b(kCells, 0.0);
  std::size_t n = 0;
  for (int i = 0; i < kShape[0]; ++i)
    for (int j = 0; j < kShape[1]; ++j)
      for (int k = 0; k < kShape[2]; ++k, ++n) {
        if (k >= kShape[2] - 8)
          cells[n] = kAir;
        else if (std::abs(i - 40) < 8 && std::abs(j - 30) < 8 && k < 24)
          cells[n] = kSolid;
        else
          b[n] = std::sin(0.3 * i) * std::cos(0.2 * j) + 0.1 * k;
      }

  relaxon::Grid grid(argc > 1 ? argv[1] : "localhost:50551", {kShape.begin(), kShape.end()}, kWidth, cells);
  std::printf("grid with %lld unknowns\n", grid.unknowns());
  const auto solution = grid.solve(b, {}, kRtol, "mg-cg", [](long long iteration, double residual) {
    std::printf("  iteration %lld: %.2e\n", iteration, residual);
  });
  const double residual = relative_residual(cells, b, solution.x);
  std::printf("%s after %lld iterations, %zu residuals\n", relaxon::pb::Result_Name(solution.result).c_str(),
              solution.iterations, solution.residuals.size());
  std::printf("relative residual, recomputed here: %.2e\n", residual);
  return solution.result == relaxon::pb::RESULT_CONVERGED && residual <= 1.001 * kRtol ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
