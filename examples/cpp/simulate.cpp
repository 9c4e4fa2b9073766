// A simulation loop whose pressure is solved by a relaxon server: water in a tank with a pillar, shaken sideways.
//
//   build/simulate [HOST:PORT] [STEPS]
//
// Velocities live on faces. Each step adds forces and projects: b = −div u / dt, then A p = b on the server, started from
// the last pressure, then u −= dt grad p. The exit status is 0 where every step removes almost all divergence, else 1.
#include "relaxon.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

using relaxon::kAir, relaxon::kFluid, relaxon::kSolid;

constexpr long kX = 64, kY = 32, kZ = 48;
constexpr double kWidth = 1.0 / 64, kStep = 0.01, kGravity = -9.81, kRtol = 1e-7, kLeft = 1e-4;

long at(long i, long j, long k) { return (i * kY + j) * kZ + k; }

struct Tank {
  std::vector<std::uint8_t> cells = std::vector<std::uint8_t>(kX * kY * kZ, kFluid);
  // The velocity through the face below each cell, one array per axis; the outermost faces are walls and stay 0.
  std::array<std::vector<double>, 3> u;
  static constexpr std::array<long, 3> strides = {kY * kZ, kZ, 1}, shape = {kX, kY, kZ};

  Tank() {
    for (auto& one : u) one.assign(cells.size(), 0.0);
    for (long i = 0; i < kX; ++i)
      for (long j = 0; j < kY; ++j)
        for (long k = 0; k < kZ; ++k) {
          if (k >= kZ - 12) cells[at(i, j, k)] = kAir;
          if (std::abs(i - 40) < 5 && std::abs(j - 16) < 5 && k < 30) cells[at(i, j, k)] = kSolid;
        }
  }

  // Whether water or air can move through the face below a cell.
  bool open(long cell, int axis) const {
    if (cell / strides[axis] % shape[axis] == 0) return false;
    const long below = cell - strides[axis];
    return cells[cell] != kSolid && cells[below] != kSolid && (cells[cell] == kFluid || cells[below] == kFluid);
  }

  void push(const std::array<double, 3>& change) {
    for (int axis = 0; axis < 3; ++axis)
      for (long n = 0; n < static_cast<long>(cells.size()); ++n)
        if (open(n, axis)) u[axis][n] += change[axis];
  }

  double divergence(long cell) const {
    double total = 0;
    for (int axis = 0; axis < 3; ++axis) {
      total -= u[axis][cell];
      if (cell / strides[axis] % shape[axis] + 1 < shape[axis]) total += u[axis][cell + strides[axis]];
    }
    return total / kWidth;
  }

  std::vector<double> source() const {
    std::vector<double> b(cells.size(), 0.0);
    for (long n = 0; n < static_cast<long>(cells.size()); ++n)
      if (cells[n] == kFluid) b[n] = -divergence(n) / kStep;
    return b;
  }

  void project(const std::vector<double>& p) {
    for (int axis = 0; axis < 3; ++axis)
      for (long n = 0; n < static_cast<long>(cells.size()); ++n)
        if (open(n, axis)) u[axis][n] -= kStep * (p[n] - p[n - strides[axis]]) / kWidth;
  }

  double norm(const std::vector<double>& b) const {
    double total = 0;
    for (double value : b) total += value * value;
    return std::sqrt(total);
  }
};

int main(int argc, char** argv) try {
  const int steps = argc > 2 ? std::atoi(argv[2]) : 12;
  Tank tank;
  relaxon::Grid grid(argc > 1 ? argv[1] : "localhost:50551", {kX, kY, kZ}, kWidth, tank.cells);
  std::printf("grid with %lld unknowns\n", grid.unknowns());
  std::vector<double> pressure;
  double worst = 0;
  for (int step = 0; step < steps; ++step) {
    const double sway = 6.0 * std::cos(0.8 * step);
    tank.push({kStep * sway, 0.0, kStep * kGravity});
    const std::vector<double> b = tank.source();
    const auto solution = grid.solve(b, pressure, kRtol, "dcdm");
    if (solution.result != relaxon::pb::RESULT_CONVERGED)
      throw std::runtime_error("step " + std::to_string(step) + ": " + relaxon::pb::Result_Name(solution.result));
    pressure = solution.x;
    tank.project(pressure);
    const double left = tank.norm(tank.source()) / tank.norm(b);
    worst = std::max(worst, left);
    std::printf("step %d: %lld iterations, divergence left %.1e of what there was\n", step, solution.iterations, left);
  }
  return worst <= kLeft ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
