// The few frames of docs/protocol.md that a hostile peer needs, so that it can say what no client of ours would.

const MAGIC = Buffer.from([0x89, 0x58, 0x46, 0x45, 0x52, 0x0d, 0x0a, 0x1a])
const ALGORITHMS = Buffer.from('\0\x01\x09crc64nvme', 'latin1')
const CRC64NVME = 1
const SIZED = 2
export const OPCODES = {
  ping: 0x02,
  put: 0x10,
  extent: 0x11,
  get: 0x20,
  list: 0x30,
  stat: 0x32,
  optional: 0x80,
}

/** A hello of version 1, or one that announces another length of its body. */
export function hello(bodyBytes = ALGORITHMS.length) {
  const fixed = Buffer.alloc(8)
  fixed.writeUInt16LE(1, 0)
  fixed.writeUInt16LE(1, 2)
  fixed.writeUInt32LE(bodyBytes, 4)
  return Buffer.concat([MAGIC, fixed, ALGORITHMS])
}

/** A frame, or the beginning of one that announces a longer body. */
export function frame(opcode, request, body, bodyBytes = body.length) {
  const header = Buffer.alloc(16)
  header[0] = opcode
  header.writeUInt32LE(request, 4)
  header.writeBigUInt64LE(BigInt(bodyBytes), 8)
  return Buffer.concat([header, body])
}

/** Announces a file; one of `undefined` bytes has a size that is not known yet. */
export function put(request, path, bytes) {
  const flags = Buffer.alloc(3)
  flags.writeUInt16LE(bytes === undefined ? 0 : SIZED)
  flags[2] = CRC64NVME
  const rest = Buffer.alloc(8 + 4 + 12 + 8 + 12)
  rest.writeBigUInt64LE(BigInt(bytes ?? 0))
  rest.writeUInt32LE(0o644, 8)
  return frame(OPCODES.put, request, Buffer.concat([flags, text(path), rest]))
}

/** The beginning of an extent of `bytes`, with as many of them as are given. */
export function extent(request, offset, bytes, raw = Buffer.alloc(0)) {
  const at = Buffer.alloc(8)
  at.writeBigUInt64LE(BigInt(offset))
  return frame(OPCODES.extent, request, Buffer.concat([at, raw]), 8 + bytes)
}

export function get(request, path) {
  const rest = Buffer.alloc(17, 0xff)
  rest.writeBigUInt64LE(0n)
  rest[16] = CRC64NVME
  return frame(OPCODES.get, request, Buffer.concat([text(path), rest]))
}

/** A listing of the whole tree. */
export function list(request, path) {
  return frame(OPCODES.list, request, Buffer.concat([Buffer.from([1, 0]), text(path)]))
}

function text(string) {
  const bytes = Buffer.from(string)
  return Buffer.concat([Buffer.from([bytes.length & 0xff, bytes.length >> 8]), bytes])
}
