// The same classes for `import` as for `require`: an error thrown by one is an instance of the other's XferdError.
export type * from './index.js'
export {
  Address,
  CEILING_WAYS,
  Client,
  connect,
  DEFAULT_PORT,
  KV_DEFAULT_PORT,
  measureCeiling,
  measureKv,
  Server,
  serve,
  Transfer,
  XferdError,
} from './index.js'
