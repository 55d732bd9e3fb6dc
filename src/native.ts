/**
 * The native addon as it is: its raw interface, and how it is found.
 *
 * Failures come back as data and become an {@link XferdError} in TypeScript. A call returns a number; its answer arrives
 * later as the {@link RawCompletion} with that `id`.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { XferdError } from './error.js'

export interface RawError {
  code: string
  message: string
  retryable: boolean
}

export interface RawEntry {
  path: string
  kind: 'file' | 'directory' | 'symlink' | 'other'
  size: number
  mode: number
  mtimeMs: number
  linkTarget?: string
}

export interface RawFailure {
  path: string
  error: RawError
}

/** How many files took each way to the disk. */
export interface WritePathCounts {
  cached: number
  uncached: number
  direct: number
  paced: number
}

export interface RawReceipt {
  files: number
  unchanged: number
  unchangedBytes: number
  directories: number
  links: number
  bytes: number
  resumedBytes: number
  skipped: number
  digest?: string
  seconds: number
  writePaths: WritePathCounts
  failed: number
  failures: RawFailure[]
}

/** The answer to one call: an error, or whichever of the other fields the call is about. */
export interface RawCompletion {
  id: number
  error?: RawError
  receipt?: RawReceipt
  entries?: RawEntry[]
  entry?: RawEntry
  chunk?: Buffer
  end?: boolean
  size?: number
}

export interface RawProgress {
  bytes: number
  resumedBytes: number
  unchangedBytes: number
  totalBytes: number
  files: number
  totalFiles: number
  totalKnown: boolean
}

export interface RawKvOptions {
  maxMemory?: number
  policy?: string
  password?: string
  idleMs?: number
  dir?: string
  fsync?: string
}

/** What a command of the key-value store has cost since the start, or since `CONFIG RESETSTAT`. */
export interface RawCommandMetrics {
  name: string
  calls: number
  failed: number
  totalMs: number
  p50Ms: number
  p99Ms: number
  p999Ms: number
}

/** What a key-value store tells of itself. */
export interface RawKvMetrics {
  connections: number
  accepted: number
  commands: number
  keys: number
  /** Bytes that keys and what they hold take. */
  memory: number
  hits: number
  misses: number
  expired: number
  evicted: number
  byCommand: RawCommandMetrics[]
}

export interface RawServerOptions {
  root?: string
  listen: string[]
  ioThreads?: number
  workers?: number
  backend?: 'auto' | 'mio' | 'uring'
  durable?: boolean
  writePath?: string
  readOnly?: boolean
  insecure?: boolean
  maxConnections?: number
  kv?: RawKvOptions
}

export interface RawServerStats {
  connections: number
  accepted: number
  filesReceived: number
  filesSent: number
  bytesReceived: number
  bytesSent: number
  errors: number
  writePaths: WritePathCounts
}

/** What waits for sockets, and why that is not `uring` if that was wanted. */
export interface RawBackend {
  name: 'mio' | 'uring'
  reason?: string
}

export interface RawServerEvent {
  event: 'accepted' | 'closed' | 'stored' | 'sent' | 'failed' | 'stop-asked'
  peer?: string
  path?: string
  bytes?: number
  writePath?: keyof WritePathCounts
  error?: RawError
}

export interface RawTransferOptions {
  clients?: number
  streams?: number
  resume?: boolean
  mmap?: boolean
  digest?: 'crc64nvme' | 'blake3' | 'none'
  durable?: boolean
  include?: string[]
  exclude?: string[]
  checksum?: boolean
  ignoreTimes?: boolean
  dryRun?: boolean
}

export interface RawCeilingOptions {
  source: string
  folder: string
  clients: number
  way: 'discard' | 'plain' | 'prealloc' | 'dontcache' | 'direct'
}

/** An error, or the figures; neither if the file system does not take the way. */
export interface RawCeiling {
  error?: RawError
  bytes?: number
  seconds?: number
  cpuSeconds?: number
}

/** An error, or what was taken over. */
export interface RawImport {
  error?: RawError
  keys?: number
  bytes?: number
  tornBytes?: number
}

export interface RawKvLoadOptions {
  address: string
  password?: string
  command?: 'ping' | 'set' | 'get' | 'mixed' | 'incr' | 'lpush'
  reads?: number
  connections?: number
  pipeline?: number
  threads?: number
  keys?: number
  distribution?: 'uniform' | 'zipf' | 'sequential'
  exponent?: number
  valueBytes?: number
  warmUpMs?: number
  timeMs?: number
  requests?: number
  rate?: number
  timeoutMs?: number
  backend?: 'auto' | 'mio' | 'uring'
}

/** What became of a load, unless there is an error. */
export interface RawKvLoad {
  error?: RawError
  requests: number
  errors: number
  firstError?: string
  misses: number
  unsent: number
  seconds: number
  meanMs: number
  p50Ms: number
  p95Ms: number
  p99Ms: number
  p999Ms: number
  maxMs: number
  histogram: { belowMs: number; count: number }[]
}

export interface NativeServer {
  addresses(): string[]
  backend(): RawBackend
  stats(): RawServerStats
  kvMetrics(): RawKvMetrics | null
  openKv(wake: () => void): OpenedKvClient
  events(): RawServerEvent[]
  close(graceMs: number): number
  drain(): RawCompletion[]
  ref(): void
  unref(): void
}

export interface NativeClient {
  connect(): number
  openKv(options: RawKvClientOptions, wake: () => void): OpenedKvClient
  push(sources: string[], target: string, targetIsDirectory: boolean, options: RawTransferOptions): number
  pull(paths: string[], destination: string, options: RawTransferOptions): number
  progress(id: number): RawProgress | null
  cancel(id: number): void
  list(path: string, recursive: boolean): number
  stat(path: string): number
  remove(path: string, recursive: boolean): number
  rename(from: string, to: string): number
  makeDir(path: string): number
  openRead(path: string, start: number, end: number): number
  readChunk(stream: number): number
  openWrite(path: string, options: { durable?: boolean; digest?: string }): number
  writeChunk(stream: number, data: Buffer): number
  finishWrite(stream: number): number
  close(): number
  drain(): RawCompletion[]
}

export interface RawKvClientOptions {
  connections?: number
  password?: string
  name?: string
  database?: number
  timeoutMs?: number
  backend?: 'auto' | 'mio' | 'uring'
}

export interface OpenedKvClient {
  client?: NativeKvClient
  backend?: RawBackend
  error?: RawError
}

export interface NativeKvClient {
  /** By any connection if `line` is 0. Answered by a chunk, beside an error if that is not all. */
  call(line: number, requests: Buffer, count: number): number
  /** The number is that of the line, too. */
  lease(): number
  nextPushes(line: number): number
  closeLine(line: number): void
  cancel(id: number): void
  close(): number
  drain(): RawCompletion[]
}

export interface Native {
  startServer(options: RawServerOptions, wake: () => void): { server?: NativeServer; error?: RawError }
  openClient(
    address: string,
    options: { timeoutMs?: number; ioThreads?: number; workers?: number; backend?: 'auto' | 'mio' | 'uring' },
    wake: () => void,
  ): { client?: NativeClient; backend?: RawBackend; error?: RawError }
  openKvClient(address: string, options: RawKvClientOptions, wake: () => void): OpenedKvClient
  measureCeiling(options: RawCeilingOptions, done: (result: RawCeiling) => void): RawError | null
  importKeys(source: string, dir: string, done: (result: RawImport) => void): RawError | null
  measureKv(options: RawKvLoadOptions, done: (result: RawKvLoad) => void): RawError | null
  version(): string
}

let loaded: Native | undefined

/** The addon for this platform, loaded at its first use. */
export function native(): Native {
  loaded ??= load()
  return loaded
}

function load(): Native {
  const directory = join(__dirname, '..', 'native')
  const causes: unknown[] = []
  for (const triple of triples()) {
    const file = join(directory, `xferd.${triple}.node`)
    if (!existsSync(file)) continue
    try {
      return ofThisVersion(require(file))
    } catch (error) {
      causes.push(error)
    }
  }
  const platform = `${process.platform}-${process.arch}`
  const problem =
    causes.length > 0 ? `does not load here: ${(causes[0] as Error).message}` : `is not in ${directory}`
  throw new XferdError(
    'UNSUPPORTED',
    `the native part of xferd for ${platform} ${problem}. ` +
      'Install xferd on this platform, or run `npm run build` in its checkout.',
    { cause: causes[0] },
  )
}

/** Names of addons that could run here, best first. Loading tells the C libraries apart: the other one's addon fails to. */
function triples(): string[] {
  const base = `${process.platform}-${process.arch}`
  return process.platform === 'linux' ? [`${base}-gnu`, `${base}-musl`] : [base]
}

function ofThisVersion(addon: Native): Native {
  const { version } = require('../package.json') as { version: string }
  if (addon.version() === version) return addon
  throw new Error(`it is of version ${addon.version()}, the rest of xferd is ${version}`)
}
