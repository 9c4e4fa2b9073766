// A grid on a relaxon server and solves on it: the part of the protocol that a C++ program needs. Needs gRPC and zlib.
#pragma once
#include <grpcpp/grpcpp.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "relaxon/proto/poisson.grpc.pb.h"

namespace relaxon {

namespace pb = relaxon::v1;

constexpr std::uint8_t kFluid = 0, kSolid = 1, kAir = 2;

struct Solution {
  pb::Result result = pb::RESULT_UNSPECIFIED;
  long long iterations = 0;
  std::vector<double> x, residuals;
};

using Progress = std::function<void(long long iteration, double residual)>;

// Assembles an announced float64 array from its parts.
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

// A box of cells with walls around it, kept by a server; the destructor deletes it there.
class Grid {
 public:
  Grid(const std::string& target, std::vector<long> shape, double width, const std::vector<std::uint8_t>& cells)
      : stub_(pb::PoissonService::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()))),
        shape_(std::move(shape)) {
    grpc::ClientContext context;
    give_seconds(context, 60);
    auto stream = stub_->CreateGrid(&context, &kept_);
    pb::CreateGridRequest request;
    auto* header = request.mutable_header();
    announce(header->mutable_cells(), pb::DATA_TYPE_UINT8);
    header->add_spacing(width);
    auto* walls = header->add_boundary();
    walls->set_low(pb::BOUNDARY_NEUMANN);
    walls->set_high(pb::BOUNDARY_NEUMANN);
    if (stream->Write(request) &&
        send<pb::CreateGridRequest>(*stream, cells, [](pb::CreateGridRequest& one) { return one.mutable_cells(); }))
      stream->WritesDone();
    check(stream->Finish(), "CreateGrid");
  }
  Grid(const Grid&) = delete;
  Grid& operator=(const Grid&) = delete;
  ~Grid() {
    if (kept_.id().empty()) return;
    grpc::ClientContext context;
    give_seconds(context, 60);
    pb::DeleteGridRequest request;
    request.set_id(kept_.id());
    pb::DeleteGridReply reply;
    stub_->DeleteGrid(&context, request, &reply);  // a server that is gone has lost it anyway
  }

  long long unknowns() const { return kept_.unknowns(); }

  // `start` may be empty; arrays hold all cells, in C order.
  Solution solve(const std::vector<double>& b, const std::vector<double>& start, double rtol, const std::string& solver,
                 const Progress& progress = {}) {
    grpc::ClientContext context;
    give_seconds(context, 600);
    auto stream = stub_->Solve(&context);
    pb::SolveRequest request;
    auto* header = request.mutable_header();
    header->set_grid_id(kept_.id());
    header->set_solver(solver);
    header->set_rtol(rtol);
    announce(header->mutable_b(), pb::DATA_TYPE_FLOAT64);
    if (!start.empty()) announce(header->mutable_x0(), pb::DATA_TYPE_FLOAT64);
    if (progress) header->mutable_progress_interval()->set_nanos(50'000'000);
    bool open = stream->Write(request) &&
                send<pb::SolveRequest>(*stream, b, [](pb::SolveRequest& one) { return one.mutable_b(); });
    if (open && !start.empty())
      open = send<pb::SolveRequest>(*stream, start, [](pb::SolveRequest& one) { return one.mutable_x0(); });
    if (open) stream->WritesDone();
    Solution found;
    Receiver x, residuals;
    pb::SolveReply reply;
    while (stream->Read(&reply)) {
      if (reply.has_progress()) {
        progress(reply.progress().iteration(), reply.progress().residual());
      } else if (reply.has_solution()) {
        found.result = reply.solution().result();
        found.iterations = reply.solution().iterations();
        x.begin(reply.solution().x());
        residuals.begin(reply.solution().residuals());
      } else if (reply.has_x()) {
        x.take(reply.x());
      } else if (reply.has_residuals()) {
        residuals.take(reply.residuals());
      }
    }
    check(stream->Finish(), "Solve");
    if (!x.complete || !residuals.complete || x.array.size() != b.size())
      throw std::runtime_error("the answer is incomplete or damaged");
    found.x = std::move(x.array);
    found.residuals = std::move(residuals.array);
    return found;
  }

 private:
  static constexpr std::size_t kChunkBytes = 1 << 20;

  static void check(const grpc::Status& status, const char* call) {
    if (!status.ok())
      throw std::runtime_error(std::string(call) + ": status " + std::to_string(status.error_code()) + ": " +
                               status.error_message());
  }

  static void give_seconds(grpc::ClientContext& context, int seconds) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
  }

  void announce(pb::TensorHeader* header, pb::DataType dtype) const {
    header->set_dtype(dtype);
    for (long n : shape_) header->add_shape(n);
  }

  // Sends an array: its bytes in chunks, then their checksum. `part_of` returns the part inside a new message.
  // This machine must be little-endian, like the protocol.
  template <typename Request, typename Stream, typename Entry, typename PartOf>
  static bool send(Stream& stream, const std::vector<Entry>& array, PartOf part_of) {
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

  std::unique_ptr<pb::PoissonService::Stub> stub_;
  std::vector<long> shape_;
  pb::Grid kept_;
};

}  // namespace relaxon
