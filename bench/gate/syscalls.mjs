// System calls of a real `xferd serve` and real clients, seen by strace. One reactor, no workers and one processor for all
// leave little to chance. What chance decides does not count: the threads of Node, and how often one thread had to be woken by
// another because it had nothing to do just then.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeRandomFile, writeRandomTree } from '../../cli/bench/disk.mjs'
import { find, run } from '../../cli/bench/processes.mjs'
import { listening, serve, xferdOf } from '../xferd.mjs'
import { ON_ONE_PROCESSOR } from './one-processor.mjs'

const LARGE_BYTES = 256 << 20
const TREE = { folders: 1, filesPerFolder: 1000, fileBytes: 4096 }
const SYNCED = { folders: 1, filesPerFolder: 100, fileBytes: 4096 }
const GIB = 2 ** 30
/** A sender and a receiver out of step take more calls for the same bytes, up to twice as many; nothing makes them take fewer. */
const LARGE_ROUNDS = 3

/** Requests for a few keys on 50 connections; what connecting takes is little beside them. */
const LOADS = {
  kv_get: { pipeline: 1, requests: 10_000 },
  kv_get_pipelined: { pipeline: 16, requests: 50_000 },
}
/** The one that is taken unless told otherwise, and the one that is there on every system. */
const BACKENDS = { '': [], '.mio': ['--backend', 'mio'] }

/** One reactor that does everything itself. */
export const SINGLE = ['--io-threads', '1', '--workers', '0']

const SYNCS = /^(?:fsync|fdatasync|syncfs|sync)$/
/** Waiting for another thread, and waking one: `write` is only made to an eventfd, as files and sockets have calls of their own. */
const HANDOVERS = /^(?:futex|write)$/
/** The threads that move files, by the names they have in both processes. */
const THREADS = /^xferd-(?:io|worker|client)/

/** Why nothing can be counted, or `undefined`. */
export function missing() {
  if (!find('strace') || ON_ONE_PROCESSOR.length === 0) return 'strace or taskset is not installed'
  // Containers may forbid it.
  const { status, stderr } = spawnSync('strace', ['-o', '/dev/null', 'true'], { encoding: 'utf8' })
  return status === 0 ? undefined : `strace may not trace here: ${stderr.trim()}`
}

/** The figures by metric. `checkout` is a built one. */
export async function count(checkout) {
  const folder = mkdtempSync(join(tmpdir(), 'xferd-syscalls-'))
  try {
    await writeRandomFile(join(folder, 'large'), LARGE_BYTES)
    await writeRandomTree(join(folder, 'tree'), TREE)
    await writeRandomTree(join(folder, 'synced'), SYNCED)
    const perGib = GIB / LARGE_BYTES
    const large = {}
    for (let round = 0; round < LARGE_ROUNDS; round++)
      fewest(large, rates('gib', perGib, await exchange(checkout, folder, 'large')))
    const tree = await exchange(checkout, folder, 'tree')
    const synced = await exchange(checkout, folder, 'synced', '--fsync')
    return {
      ...large,
      ...rates('1000_files', 1000 / TREE.filesPerFolder, tree),
      ...(await asked(checkout, folder)),
      'fsyncs_per_file.server.push': total(synced.push.server, SYNCS) / SYNCED.filesPerFolder,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
}

/** Keeps the lower figures. */
function fewest(figures, others) {
  for (const [metric, figure] of Object.entries(others))
    figures[metric] = Math.min(figure, figures[metric] ?? figure)
}

function rates(unit, factor, exchanged) {
  const figures = {}
  for (const [verb, sides] of Object.entries(exchanged))
    for (const [side, calls] of Object.entries(sides))
      figures[`syscalls_per_${unit}.${side}.${verb}`] = total(calls) * factor
  return figures
}

/** Pushes what is called `name`, pulls it back, and says which calls that took on each side. */
async function exchange(checkout, folder, name, ...options) {
  const root = join(folder, `root-${name}`)
  mkdirSync(root)
  const push = await traced(checkout, folder, root, options, (address) => [
    'push',
    join(folder, name),
    `${address}/${name}`,
  ])
  const pull = await traced(checkout, folder, root, options, (address) => [
    'pull',
    `${address}/${name}`,
    join(folder, `copy-${name}`),
  ])
  rmSync(root, { recursive: true })
  rmSync(join(folder, `copy-${name}`), { recursive: true })
  return { push, pull }
}

/** What a server of keys takes for requests, one by one and pipelined. A checkout that has none has no figures. */
async function asked(checkout, folder) {
  const figures = {}
  if (!existsSync(join(checkout, 'cli/commands/kv/bench.ts'))) return figures
  for (const [name, { pipeline, requests }] of Object.entries(LOADS)) {
    for (const [suffix, options] of Object.entries(BACKENDS)) {
      const file = join(folder, 'kv.strace')
      const listen = ['serve', '--listen', 'kv://127.0.0.1:0', '--json', ...SINGLE, ...options]
      const ask = [
        `--pipeline=${pipeline}`,
        `--requests=${requests}`,
        '--warm-up=0',
        '--keys=1000',
        '--backend=mio',
      ]
      const served = await listening(...strace(file, checkout), ...listen)
      await whileServing(served, ({ address }) =>
        run(...ON_ONE_PROCESSOR, ...xferdOf(checkout), 'kv', 'bench', address, ...ask),
      )
      const calls = callsIn(readFileSync(file, 'utf8'))
      figures[`syscalls_per_1000_requests.${name}${suffix}`] = (total(calls) / requests) * 1000
    }
  }
  return figures
}

/** Runs one client against a server of its own. */
async function traced(checkout, folder, root, options, command) {
  const [served, asked] = ['server', 'client'].map((side) => join(folder, `${side}.strace`))
  await whileServing(await serve(strace(served, checkout), root, ...SINGLE, ...options), ({ address }) =>
    run(...strace(asked, checkout), ...command(address), '--json'),
  )
  return { server: callsIn(readFileSync(served, 'utf8')), client: callsIn(readFileSync(asked, 'utf8')) }
}

/** Does something with a server, and ends that. */
export async function whileServing(served, act) {
  try {
    await act(served)
  } finally {
    const closed = once(served.server.child, 'close')
    process.kill(served.pid, 'SIGTERM')
    await closed
  }
}

/** A command that runs `xferd` on one processor and writes down the calls of its threads. */
function strace(file, checkout) {
  return [...ON_ONE_PROCESSOR, ...tracing(file), ...xferdOf(checkout)]
}

/** What writes down the calls of a command's threads, with the names of these. */
export function tracing(file) {
  return ['strace', '-f', '-qq', '--decode-pids=comm', '-o', file]
}

/** How often each call was made by the threads that count. A call that others interrupted has two lines. */
export function callsIn(trace, threads = THREADS) {
  const calls = new Map()
  for (const [, thread, call] of trace.matchAll(/^\d+<([^>]*)> (\w+)\(/gm)) {
    if (threads.test(thread)) calls.set(call, (calls.get(call) ?? 0) + 1)
  }
  return calls
}

function total(calls, pattern = /./) {
  const counted = [...calls].filter(([call]) => pattern.test(call) && !HANDOVERS.test(call))
  return counted.reduce((sum, [, count]) => sum + count, 0)
}
