// A grid with an obstacle and an open surface, solved by a relaxon server; the residual is recomputed here.
//
//   npm install && node solve.js [HOST:PORT]
//
// The exit status is 0 where the answer meets the tolerance by this file's own arithmetic, and 1 where not.
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const TARGET = process.argv[2] ?? "localhost:50551";
// The folder that holds relaxon/proto: src in a checkout, site-packages of an installed package.
const ROOT = process.env.RELAXON_PROTO_ROOT ?? fileURLToPath(new URL("../../src", import.meta.url));
const CHUNK_BYTES = 1 << 20;
const FLUID = 0, SOLID = 1, AIR = 2;
const SHAPE = [96, 64, 48], WIDTH = 1 / 96, RTOL = 1e-8;

const files = loader.loadSync("relaxon/proto/poisson.proto", {
  includeDirs: [ROOT], keepCase: true, longs: Number, enums: String, oneofs: true, defaults: true,
});
const { PoissonService } = grpc.loadPackageDefinition(files).relaxon.v1;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** Extends the CRC-32 `checksum` by more bytes. (zlib.crc32 does the same from Node 20.15 and 22.2 on.) */
function crc32(bytes, checksum = 0) {
  let state = ~checksum;
  for (const byte of bytes) state = CRC_TABLE[(state ^ byte) & 0xff] ^ (state >>> 8);
  return ~state >>> 0;
}

/** Writes a message, and waits where the server is slower than we are. */
async function write(call, message) {
  if (!call.write(message)) await once(call, "drain");
}

/** Sends an array as the parts of `kind`: its bytes in chunks, then their checksum. */
async function sendArray(call, kind, array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let checksum = 0;
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    const chunk = bytes.subarray(start, start + CHUNK_BYTES);
    checksum = crc32(chunk, checksum);
    await write(call, { [kind]: { chunk } });
  }
  await write(call, { [kind]: { end: { crc32: checksum } } });
}

/** Assembles an announced float64 array from its parts. */
class Float64Receiver {
  constructor(header) {
    this.array = new Float64Array(header.shape.reduce((a, b) => a * b, 1));
    this.bytes = new Uint8Array(this.array.buffer);
    this.filled = 0;
    this.complete = false;
  }

  take(part) {
    if (part.part === "chunk") {
      this.bytes.set(part.chunk, this.filled);
      this.filled += part.chunk.length;
    } else {
      if (this.filled !== this.bytes.length || crc32(this.bytes) !== part.end.crc32) throw new Error("damaged array");
      this.complete = true;
    }
  }
}

async function createGrid(client, cells) {
  let answer;
  const reply = new Promise((resolve, reject) => {
    answer = (error, grid) => (error ? reject(error) : resolve(grid));
  });
  reply.catch(() => {}); // where the call fails while we send, `await reply` below still throws
  const call = client.CreateGrid({ deadline: Date.now() + 60_000 }, answer);
  const wall = { low: "BOUNDARY_NEUMANN", high: "BOUNDARY_NEUMANN" };
  const header = { cells: { dtype: "DATA_TYPE_UINT8", shape: SHAPE }, spacing: [WIDTH], boundary: [wall] };
  await write(call, { header });
  await sendArray(call, "cells", cells);
  call.end();
  return reply;
}

async function solve(client, gridId, b, onProgress) {
  const call = client.Solve({ deadline: Date.now() + 600_000 });
  const received = {};
  let solution;
  const ended = new Promise((resolve, reject) => {
    call.on("data", (reply) => {
      try {
        if (reply.message === "progress") onProgress(reply.progress);
        else if (reply.message === "solution") {
          solution = reply.solution;
          for (const name of ["x", "residuals"]) received[name] = new Float64Receiver(solution[name]);
        } else received[reply.message].take(reply[reply.message]);
      } catch (error) {
        call.cancel();
        reject(error);
      }
    });
    call.on("error", reject);
    call.on("end", resolve);
  });
  ended.catch(() => {});
  await write(call, {
    header: {
      grid_id: gridId, solver: "mg-cg", rtol: RTOL, b: { dtype: "DATA_TYPE_FLOAT64", shape: SHAPE },
      progress_interval: { seconds: 0, nanos: 50_000_000 },
    },
  });
  await sendArray(call, "b", b);
  call.end();
  await ended;
  if (!received.x?.complete || !received.residuals?.complete) throw new Error("the answer is incomplete");
  return { ...solution, x: received.x.array, residuals: received.residuals.array };
}

/** ‖b − A x‖ / ‖b‖, from the flux through every face between cells: none through solids; air has the value 0. */
function relativeResidual(cells, b, x) {
  const strides = [SHAPE[1] * SHAPE[2], SHAPE[2], 1];
  let left = 0, right = 0;
  for (let i = 0; i < cells.length; i++) {
    if (cells[i] !== FLUID) continue;
    let outflow = 0;
    for (let axis = 0; axis < 3; axis++) {
      const place = Math.floor(i / strides[axis]) % SHAPE[axis];
      for (const step of [-1, 1]) {
        if (place + step < 0 || place + step >= SHAPE[axis]) continue; // a wall
        const other = i + step * strides[axis];
        if (cells[other] !== SOLID) outflow += (x[i] - (cells[other] === AIR ? 0 : x[other])) / WIDTH ** 2;
      }
    }
    left += (b[i] - outflow) ** 2;
    right += b[i] ** 2;
  }
  return Math.sqrt(left / right);
}

const [nx, ny, nz] = SHAPE;
const cells = new Uint8Array(nx * ny * nz), b = new Float64Array(nx * ny * nz);
for (let i = 0, n = 0; i < nx; i++) {
  for (let j = 0; j < ny; j++) {
    for (let k = 0; k < nz; k++, n++) {
      if (k >= nz - 8) cells[n] = AIR;
      else if (Math.abs(i - 40) < 8 && Math.abs(j - 30) < 8 && k < 24) cells[n] = SOLID;
      else b[n] = Math.sin(0.3 * i) * Math.cos(0.2 * j) + 0.1 * k;
    }
  }
}

const client = new PoissonService(TARGET, grpc.credentials.createInsecure());
try {
  const grid = await createGrid(client, cells);
  console.log(`grid with ${grid.unknowns} unknowns`);
  const show = (progress) => console.log(`  iteration ${progress.iteration}: ${progress.residual.toExponential(2)}`);
  const solution = await solve(client, grid.id, b, show);
  const residual = relativeResidual(cells, b, solution.x);
  console.log(`${solution.result} after ${solution.iterations} iterations, ${solution.residuals.length} residuals`);
  console.log(`relative residual, recomputed here: ${residual.toExponential(2)}`);
  await new Promise((resolve, reject) => client.DeleteGrid({ id: grid.id }, (e) => (e ? reject(e) : resolve())));
  process.exitCode = solution.result === "RESULT_CONVERGED" && residual <= 1.001 * RTOL ? 0 : 1;
} catch (error) {
  console.error(error.code === undefined ? error : `${grpc.status[error.code] ?? error.code}: ${error.details ?? error}`);
  process.exitCode = 1;
} finally {
  client.close();
}
