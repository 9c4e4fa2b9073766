// A grid with an obstacle and an open surface, solved by a relaxon server; the residual is computed again here.
//
//   build/solve [HOST:PORT]
//
// Exits with 0 where the server's answer meets the tolerance by this file's own arithmetic, with 1 where not.
#include <grpcpp/grpcpp.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "relaxon/proto/poisson.grpc.pb.h"

namespace pb = relaxon::v1;

constexpr std::size_t kChunkBytes = 1 << 20;
constexpr std::uint8_t kFluid = 0, kSolid = 1, kAir = 2;
constexpr std::array<int, 3> kShape = {96, 64, 48};
constexpr std::size_t kCells = 96 * 64 * 48;
constexpr double kWidth = 1.0 / 96, kRtol = 1e-8;

template <typename Entry>
void announce(pb::TensorHeader* header, pb::DataType dtype, const std::vector<Entry>&) {
  header->set_dtype(dtype);
  for (int n : kShape) header->add_shape(n);
}

// Sends an array: its bytes in chunks, then their checksum. `part_of` gives the part inside a fresh message.
// This machine has to be little-endian, as the wire is.
template <typename Stream, typename Request, typename Entry, typename PartOf>
bool send_array(Stream& stream, const std::vector<Entry>& array, PartOf part_of) {
  const char* bytes = reinterpret_cast<const char*>(array.data());
  const std::size_t size = array.size() * sizeof(Entry);
  uLong checksum = crc32(0, nullptr, 0);
  for (std::size_t start = 0; start < size; start += kChunkBytes) {
    const std::size_t length = std::min(kChunkBytes, size - start);
    checksum = crc32(checksum, reinterpret_cast<const Bytef*>(bytes + start), static_cast<uInt>(length));
    Request request;
    part_of(request)->set_chunk(bytes + start, length);
    if (!stream.Write(request)) return false;  // the server has ended the call; Finish says why
  }
  Request request;
  part_of(request)->mutable_end()->set_crc32(static_cast<std::uint32_t>(checksum));
  return stream.Write(request);
}

// Puts an announced array of float64 together from its parts.
class Receiver {
 public:
  void begin(const pb::TensorHeader& header) {
    std::size_t size = 1;
    for (auto n : header.shape()) size *= static_cast<std::size_t>(n);
    array.assign(size, 0.0);
  }
  void take(const pb::TensorPart& part) {
    const std::size_t size = array.size() * sizeof(double);
    if (part.has_chunk()) {
      if (filled_ + part.chunk().size() > size) throw std::runtime_error("an array has too many bytes");
      std::memcpy(reinterpret_cast<char*>(array.data()) + filled_, part.chunk().data(), part.chunk().size());
      filled_ += part.chunk().size();
    } else {
      const auto* bytes = reinterpret_cast<const Bytef*>(array.data());
      const uLong checksum = crc32_z(crc32(0, nullptr, 0), bytes, filled_);
      complete = filled_ == size && checksum == part.end().crc32();
    }
  }
  std::vector<double> array;
  bool complete = false;

 private:
  std::size_t filled_ = 0;
};

void check(const grpc::Status& status, const char* call) {
  if (!status.ok())
    throw std::runtime_error(std::string(call) + ": status " + std::to_string(status.error_code()) + ": " +
                             status.error_message());
}

void give_seconds(grpc::ClientContext& context, int seconds) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
}

pb::Grid create_grid(pb::PoissonService::Stub& stub, const std::vector<std::uint8_t>& cells) {
  grpc::ClientContext context;
  give_seconds(context, 60);
  pb::Grid grid;
  auto stream = stub.CreateGrid(&context, &grid);
  pb::CreateGridRequest request;
  auto* header = request.mutable_header();
  announce(header->mutable_cells(), pb::DATA_TYPE_UINT8, cells);
  header->add_spacing(kWidth);
  auto* walls = header->add_boundary();
  walls->set_low(pb::BOUNDARY_NEUMANN);
  walls->set_high(pb::BOUNDARY_NEUMANN);
  if (stream->Write(request) &&
      send_array<decltype(*stream), pb::CreateGridRequest>(
          *stream, cells, [](pb::CreateGridRequest& one) { return one.mutable_cells(); }))
    stream->WritesDone();
  check(stream->Finish(), "CreateGrid");
  return grid;
}

pb::SolutionHeader solve(pb::PoissonService::Stub& stub, const std::string& grid_id, const std::vector<double>& b,
                         Receiver& x, Receiver& residuals) {
  grpc::ClientContext context;
  give_seconds(context, 600);
  auto stream = stub.Solve(&context);
  pb::SolveRequest request;
  auto* header = request.mutable_header();
  header->set_grid_id(grid_id);
  header->set_solver("mg-cg");
  header->set_rtol(kRtol);
  announce(header->mutable_b(), pb::DATA_TYPE_FLOAT64, b);
  header->mutable_progress_interval()->set_nanos(50'000'000);
  if (stream->Write(request) &&
      send_array<decltype(*stream), pb::SolveRequest>(*stream, b,
                                                      [](pb::SolveRequest& one) { return one.mutable_b(); }))
    stream->WritesDone();
  pb::SolutionHeader solution;
  pb::SolveReply reply;
  while (stream->Read(&reply)) {
    if (reply.has_progress()) {
      std::printf("  iteration %lld: %.2e\n", static_cast<long long>(reply.progress().iteration()),
                  reply.progress().residual());
    } else if (reply.has_solution()) {
      solution = reply.solution();
      x.begin(solution.x());
      residuals.begin(solution.residuals());
    } else if (reply.has_x()) {
      x.take(reply.x());
    } else if (reply.has_residuals()) {
      residuals.take(reply.residuals());
    }
  }
  check(stream->Finish(), "Solve");
  if (!x.complete || !residuals.complete || x.array.size() != b.size())
    throw std::runtime_error("the answer is incomplete or damaged");
  return solution;
}

// ‖b − A x‖ / ‖b‖: the flux through every face between cells; solids let nothing through, air has the value 0.
double relative_residual(const std::vector<std::uint8_t>& cells, const std::vector<double>& b,
                         const std::vector<double>& x) {
  const std::array<long, 3> strides = {static_cast<long>(kShape[1]) * kShape[2], kShape[2], 1};
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

  const std::string target = argc > 1 ? argv[1] : "localhost:50551";
  auto stub = pb::PoissonService::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
  const pb::Grid grid = create_grid(*stub, cells);
  std::printf("grid with %lld unknowns\n", static_cast<long long>(grid.unknowns()));
  Receiver x, residuals;
  const pb::SolutionHeader solution = solve(*stub, grid.id(), b, x, residuals);
  const double residual = relative_residual(cells, b, x.array);
  std::printf("%s after %lld iterations, %zu residuals\n", pb::Result_Name(solution.result()).c_str(),
              static_cast<long long>(solution.iterations()), residuals.array.size());
  std::printf("relative residual, computed here: %.2e\n", residual);

  grpc::ClientContext context;
  give_seconds(context, 60);
  pb::DeleteGridRequest request;
  request.set_id(grid.id());
  pb::DeleteGridReply reply;
  check(stub->DeleteGrid(&context, request, &reply), "DeleteGrid");
  return solution.result() == pb::RESULT_CONVERGED && residual <= 1.001 * kRtol ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
