/** The program `xferd`. It is bundled into `dist/cli.js`, for a quick start (docs/architecture.md). */
import { execute } from '@oclif/core/execute'
import { Bench } from './commands/bench.js'
import { KvBench } from './commands/kv/bench.js'
import { KvDel } from './commands/kv/del.js'
import { KvGet } from './commands/kv/get.js'
import { KvImport } from './commands/kv/import.js'
import { KvMonitor } from './commands/kv/monitor.js'
import { Kv } from './commands/kv/prompt.js'
import { KvScan } from './commands/kv/scan.js'
import { KvSet } from './commands/kv/set.js'
import { Ls } from './commands/ls.js'
import { Mkdir } from './commands/mkdir.js'
import { Mv } from './commands/mv.js'
import { Pull } from './commands/pull.js'
import { Push } from './commands/push.js'
import { Rm } from './commands/rm.js'
import { Serve } from './commands/serve.js'
import { Stat } from './commands/stat.js'

export { Help } from './help.js'

/** oclif finds the commands here; package.json says so. */
export const COMMANDS = {
  serve: Serve,
  push: Push,
  pull: Pull,
  ls: Ls,
  stat: Stat,
  rm: Rm,
  mv: Mv,
  mkdir: Mkdir,
  bench: Bench,
  kv: Kv,
  'kv:get': KvGet,
  'kv:set': KvSet,
  'kv:del': KvDel,
  'kv:scan': KvScan,
  'kv:monitor': KvMonitor,
  'kv:import': KvImport,
  'kv:bench': KvBench,
}

export function run(): Promise<unknown> {
  return execute({ dir: __dirname })
}
