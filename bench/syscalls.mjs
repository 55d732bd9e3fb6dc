// What docs/why-syscalls.md tells: the system calls of servers of keys for one request, by strace, and by perf, which does not slow
// them down. `Redis` takes part if it is installed, perf if it is and may count.
//
//   node bench/syscalls.mjs [--requests 20000, times the length of a pipeline]

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { accepting, find, freePort, launch, ready, run } from '../cli/bench/processes.mjs'
import { ROOT } from './gate/checkout.mjs'
import { callsIn, missing, SINGLE, tracing, whileServing } from './gate/syscalls.mjs'
import { temporaryFolder } from './temporary-folder.mjs'
import { listening, xferdOf } from './xferd.mjs'

const XFERD = xferdOf(ROOT)
/** A run without these does all but what is counted. */
const FEW = 1000
/** So many times as many are counted where nothing slows them down. */
const UNTRACED = 4
/** Connections, and requests that each sends at once. */
const LOADS = [
  { connections: 1, pipeline: 1 },
  { connections: 50, pipeline: 1 },
  { connections: 50, pipeline: 16 },
]
/** Less than so many calls for a request are not worth a word. */
const LEAST = 0.005

const { values } = parseArgs({ options: { requests: { type: 'string', default: '20000' } } })
const requests = Number(values.requests)
const reason = missing()
if (reason) throw new Error(reason)

const folder = temporaryFolder('syscalls')
const file = join(folder, 'calls')
const xferd = (backend) => ({
  threads: /^xferd-io/,
  start: (prefix) =>
    listening(
      ...prefix,
      ...XFERD,
      'serve',
      '--listen',
      'kv://127.0.0.1:0',
      '--json',
      ...SINGLE,
      '--backend',
      backend,
    ),
})
const servers = {
  'xferd, io_uring': xferd('uring'),
  'xferd, mio': xferd('mio'),
  ...(find('redis-server') && { [redisName()]: { threads: /^redis-server/, start: startRedis } }),
}
const perfCounts =
  spawnSync('perf', ['stat', '-x,', '-o', '/dev/null', '-e', 'raw_syscalls:sys_enter', 'true']).status === 0

console.log(
  '| connections | GETs at once | | calls for one | of these | unwatched |\n|---:|---:|---|---:|---|---:|',
)
for (const shape of LOADS) {
  for (const [name, server] of Object.entries(servers)) {
    const more = requests * shape.pipeline
    const [few, many] = [await traced(server, shape, FEW), await traced(server, shape, FEW + more)]
    const each = [...many].map(([call, count]) => [call, (count - (few.get(call) ?? 0)) / more])
    const all = each.reduce((sum, [, count]) => sum + count, 0)
    const named = each.filter(([, count]) => count >= LEAST).sort(([, one], [, other]) => other - one)
    const words = named.map(([call, count]) => `\`${call}\` ${count.toFixed(3)}`).join(', ')
    const unwatched = perfCounts ? (await counted(server, shape)).toFixed(3) : ''
    console.log(
      `| ${shape.connections} | ${shape.pipeline} | ${name} | ${all.toFixed(3)} | ${words} | ${unwatched} |`,
    )
  }
}

/** The calls of a server that answers so many requests, and all that goes with them. */
async function traced({ threads, start }, shape, requests) {
  await whileServing(await start(tracing(file)), ({ address }) => run(...load(address, shape, requests)))
  return callsIn(readFileSync(file, 'utf8'), threads)
}

/** All calls for one request, counted by the kernel. */
async function counted({ threads, start }, shape) {
  const all = requests * shape.pipeline * UNTRACED
  const counts = ['perf', 'stat', '-x,', '-o', file, '-e', 'raw_syscalls:sys_enter']
  await whileServing(await start([]), async ({ server, address, pid }) => {
    // A thread takes its name a moment after it has begun.
    await ready(server, () => threadOf(pid, threads) !== undefined)
    await run(...counts, '-t', threadOf(pid, threads), '--', ...load(address, shape, all))
  })
  return Number(/^(\d+),/m.exec(readFileSync(file, 'utf8'))?.[1]) / all
}

function load(address, { connections, pipeline }, requests) {
  const what = [
    `--connections=${connections}`,
    `--pipeline=${pipeline}`,
    `--requests=${requests}`,
    '--warm-up=0',
    '--keys=1000',
    '--backend=mio',
  ]
  return [...XFERD, 'kv', 'bench', address, ...what]
}

function threadOf(pid, threads) {
  const nameOf = (thread) => readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8')
  return readdirSync(`/proc/${pid}/task`).find((thread) => threads.test(nameOf(thread)))
}

async function startRedis(prefix) {
  const port = await freePort()
  const pidfile = join(folder, `redis-${port}`)
  const options = [
    '--port',
    port,
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
    '--pidfile',
    pidfile,
  ]
  const server = launch(...prefix, 'redis-server', ...options.map(String))
  // It accepts before it has written that.
  await accepting(server, port)
  await ready(server, () => existsSync(pidfile) && readFileSync(pidfile, 'utf8').endsWith('\n'))
  return { server, address: `kv://127.0.0.1:${port}`, pid: Number(readFileSync(pidfile, 'utf8')) }
}

function redisName() {
  const { stdout } = spawnSync('redis-server', ['--version'], { encoding: 'utf8' })
  return `Redis ${/v=([\d.]+)/.exec(stdout)?.[1]}`
}
