// The same classes for `import` as for `require`: an error thrown by one is an instance of the other's XferdError.
export type * from './index.js'
export {
  Address,
  CEILING_WAYS,
  Client,
  connect,
  connectKv,
  DEFAULT_PORT,
  importKeys,
  KV_DEFAULT_PORT,
  KvClient,
  KvFeed,
  measureCeiling,
  measureKv,
  Server,
  serve,
  Transfer,
  XferdError,
} from './index.js'
