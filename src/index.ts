export { Address, DEFAULT_PORT, KV_DEFAULT_PORT } from './address.js'
export {
  CEILING_WAYS,
  type CeilingFigures,
  type CeilingOptions,
  type CeilingWay,
  measureCeiling,
} from './ceiling.js'
export {
  type CallOptions,
  Client,
  type ClientKvOptions,
  type ConnectOptions,
  connect,
  type PullOptions,
  type PushOptions,
  type TransferOptions,
} from './client.js'
export type { Entry } from './entry.js'
export { type ErrorCode, XferdError } from './error.js'
export { KvClient, type KvMessage, type KvView } from './kv/client.js'
export type { KvArg, KvValue } from './kv/codec.js'
export type {
  Bound as KvBound,
  Fields as KvFields,
  Key as KvKey,
  KvCommands,
  ScanOptions as KvScanOptions,
  Scored as KvScored,
  Scores as KvScores,
  SetOptions as KvSetOptions,
  SlowCommand,
  ZaddOptions as KvZaddOptions,
  ZrangeOptions as KvZrangeOptions,
} from './kv/commands.js'
export { type ConnectKvOptions, connectKv } from './kv/connect.js'
export { KvFeed } from './kv/feed.js'
export { importKeys, type KvImport } from './kv/import.js'
export {
  type KvLoadCommand,
  type KvLoadDistribution,
  type KvLoadFigures,
  type KvLoadOptions,
  measureKv,
} from './kv/load.js'
export type { KvMonitored } from './kv/monitored.js'
export type { TransactionOptions } from './kv/transaction.js'
export type {
  RawCommandMetrics as CommandMetrics,
  RawKvMetrics as KvMetrics,
  WritePathCounts,
} from './native.js'
export type { Progress } from './progress.js'
export type { ReadStream, ReadStreamOptions } from './read-stream.js'
export type { Failure, Receipt } from './receipt.js'
export {
  type KvOptions,
  type ServeOptions,
  Server,
  type ServerEvent,
  type ServerMetrics,
  type ServerStats,
  serve,
} from './server.js'
export { Transfer } from './transfer.js'
export type { WriteStream, WriteStreamOptions } from './write-stream.js'
