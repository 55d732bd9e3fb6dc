// What more and more connections do to a server: `npm run bench:sweep`. docs/why-event-loop.md tells what came of it.
//
//   node bench/sweep.mjs [--connections 1,64,256,1024,10000] [--requests ping,get] [--contenders mio,uring,coroutines]
//                        [--seconds 1] [--rounds 3] [--io-threads 1] [--workers 0] [--idle 10000] [--json]
//
// Requests are ping (an echo), stat, get (a file of 64 KiB) and put (one of 4 KiB). Contenders are `mio` and `uring` (the engine
// on either backend, without Node), `coroutines` (the small-file part once more, on tokio) and `xferd` (`xferd serve` as users
// run it). Each run has a server of its own and one thread of load, which takes its share of the processors.

import { spawn, spawnSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { find, launch, run, stop } from '../cli/bench/processes.mjs'
import { median } from './gate/verdict.mjs'
import { temporaryFolder } from './temporary-folder.mjs'
import { listening, xferdOf } from './xferd.mjs'

const ROOT = join(import.meta.dirname, '..')
const PROGRAMS = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'release')
const [SWEEP, COROUTINES] = ['xferd-sweep', 'xferd-coroutines'].map((name) => join(PROGRAMS, name))

/** More than a processor's cache holds; each connection gets them in turn, from another one on. */
const FILES = 1024
const FILE_BYTES = 65_536
const WARM_UP_S = 0.3
/** Requests that system calls are counted for, at least one for each connection. */
const COUNTED_REQUESTS = 2000
/** The threads that serve, by their names; what Node does besides is not counted. */
const SERVING = /^(?:xferd-(?:io|worker)|tokio)/

/** Where a connection is handled, on either side. Tests, comments and empty lines don't count. */
const SOURCES = {
  coroutines: ['bench/coroutines/src/main.rs', 'bench/coroutines/src/connection.rs'],
  'event loop: session': ['crates/server/src/session.rs', 'crates/server/src/server.rs'],
  'event loop: shard': ['conn', 'flights', 'input', 'mailbox', 'outbox', 'session', 'shard', 'work'].map(
    (name) => `crates/engine/src/${name}.rs`,
  ),
  'event loop: reactor': readdirSync(join(ROOT, 'crates/reactor/src'), { recursive: true })
    .filter((name) => name.endsWith('.rs') && !/(?:^|\/)(?:sim_driver|tests)\.rs$/.test(name))
    .map((name) => `crates/reactor/src/${name}`),
}

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '1,64,256,1024,10000' },
    requests: { type: 'string', default: 'ping,get' },
    contenders: { type: 'string', default: 'mio,uring,coroutines' },
    seconds: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' },
    'io-threads': { type: 'string', default: '1' },
    workers: { type: 'string', default: '0' },
    idle: { type: 'string', default: '10000' },
    json: { type: 'boolean', default: false },
  },
})

const counts = values.connections.split(',').map(Number)
const requests = values.requests.split(',')
const rounds = Number(values.rounds)
const threads = ['--io-threads', values['io-threads'], '--workers', values.workers]

const build = ['build', '--release', '--locked', '-p', 'xferd-sweep', '-p', 'xferd-coroutines']
if (spawnSync('cargo', build, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] }).status !== 0)
  process.exit(1)

const folder = temporaryFolder('sweep')
const root = join(folder, 'root')
mkdirSync(root)
for (let file = 0; file < FILES; file++)
  writeFileSync(join(root, `file-${file}`), randomFillSync(Buffer.alloc(FILE_BYTES)))

const engine = (backend) => ['env', `XFERD_BACKEND=${backend}`, SWEEP, 'serve', '--root', root, ...threads]
const all = {
  mio: engine('mio'),
  uring: engine('uring'),
  coroutines: [COROUTINES, root, values['io-threads'], values.workers],
  xferd: [...xferdOf(ROOT), 'serve', root, '--port', '0', '--json', ...threads],
}
const names = values.contenders.split(',')
for (const name of names) if (!all[name]) throw new Error(`${name} is none of ${Object.keys(all).join(', ')}`)

const rows = []
for (const request of requests) {
  for (const connections of counts) {
    const figures = new Map(names.map((name) => [name, []]))
    for (let round = 0; round < rounds; round++)
      for (const name of names) figures.get(name).push(await load(name, request, connections))
    for (const [contender, told] of figures) {
      const row = { request, connections, contender }
      for (const figure of Object.keys(told[0]).filter((key) => typeof told[0][key] === 'number'))
        row[figure] = median(told.map((one) => one[figure]))
      row.callsPerRequest = await calls(contender, request, connections)
      rows.push(row)
      if (!values.json) print(row)
    }
  }
}
const idle = []
for (const contender of Number(values.idle) > 0 ? names : []) {
  const told = await withServer(contender, async ({ flags }) =>
    JSON.parse(
      (await run(SWEEP, 'idle', ...flags, '--connections', values.idle, '--request', 'ping')).stdout,
    ),
  )
  idle.push({ contender, ...told })
  if (!values.json)
    console.log(
      `${contender}: ${told.connections} idle connections, ${told.bytesPerConnection} bytes each, CPU ${told.cpuPercent} %`,
    )
}
const lines = Object.fromEntries(
  Object.entries(SOURCES).map(([name, files]) => [name, files.reduce((sum, file) => sum + linesOf(file), 0)]),
)
if (values.json)
  console.log(JSON.stringify({ processors: availableParallelism(), settings: values, rows, idle, lines }))
else for (const [name, count] of Object.entries(lines)) console.log(`${name}: ${count} lines of code`)

/** One run: a server of its own, the load, what it came to. */
function load(contender, request, connections) {
  return withServer(contender, async ({ flags }) => {
    const asked = ['--request', request, '--connections', `${connections}`]
    const timed = ['--seconds', values.seconds, '--warm-up', `${WARM_UP_S}`]
    const { stdout } = await run(SWEEP, 'load', ...flags, ...asked, ...timed)
    const told = JSON.parse(stdout)
    if (told.errors > 0) throw new Error(`${contender}: ${told.errors} errors, the first: ${told.firstError}`)
    return told
  })
}

/** System calls of a server for each request, once it has all connections; `null` where they can't be counted. */
function calls(contender, request, connections) {
  if (!find('strace')) return null
  return withServer(contender, async ({ flags, pid }) => {
    const times = Math.ceil(COUNTED_REQUESTS / connections)
    const asked = ['--request', request, '--connections', `${connections}`, '--times', `${times}`]
    const asking = spawn(SWEEP, ['ask', ...flags.slice(0, 2), ...asked], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const said = createInterface({ input: asking.stdout })[Symbol.asyncIterator]()
    await said.next()
    const serving = readdirSync(`/proc/${pid}/task`).filter((thread) =>
      SERVING.test(readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8')),
    )
    const summary = join(folder, 'strace')
    const tracing = launch('strace', '-c', '-o', summary, ...serving.flatMap((thread) => ['-p', thread]))
    while ((tracing.complaints.match(/attached/g) ?? []).length < serving.length)
      await once(tracing.child.stderr, 'data')
    asking.stdin.write('\n')
    await said.next()
    const traced = once(tracing.child, 'close')
    tracing.child.kill('SIGINT')
    await traced
    asking.stdin.end('\n')
    await once(asking, 'close')
    const total = /^ *[\d.]+ +[\d.]+ +\d+ +(\d+).* total$/m.exec(readFileSync(summary, 'utf8'))
    return total ? Number(total[1]) / (connections * times) : null
  })
}

async function withServer(contender, use) {
  const { server, address, pid } = await listening(...all[contender])
  try {
    return await use({ pid, flags: ['--address', address.replace('xfer://', ''), '--pid', `${pid}`] })
  } finally {
    await stop(server)
  }
}

function print(row) {
  const { request, connections, contender, callsPerRequest } = row
  const columns = [
    [request, -5],
    [connections, 6],
    [contender, -11],
    [`${Math.round(row.requestsPerSecond)}/s`, 10],
    [`p50 ${Math.round(row.p50Us)}`, 11],
    [`p99 ${Math.round(row.p99Us)} us`, 14],
    [`CPU ${Math.round(row.cpuPercent)} %`, 10],
    [`load ${Math.round(row.loadCpuPercent)} %`, 11],
    [`${(row.privateBytes / 1e6).toFixed(1)} MB`, 9],
    [callsPerRequest === null ? '' : `${callsPerRequest.toFixed(2)} calls`, 12],
  ]
  const padded = columns.map(([text, width]) =>
    width < 0 ? `${text}`.padEnd(-width) : `${text}`.padStart(width),
  )
  console.log(padded.join(' '))
}

function linesOf(file) {
  const [code] = readFileSync(join(ROOT, file), 'utf8').split('#[cfg(test)]')
  return code.split('\n').filter((line) => line.trim() !== '' && !line.trim().startsWith('//')).length
}
