// System calls of a real `xferd serve` and real clients, seen by strace. One reactor, no workers and one processor for all
// leave little to chance. What chance decides does not count: the threads of Node, and how often one thread had to be woken by
// another because it had nothing to do just then.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeRandomFile, writeRandomTree } from '../../cli/bench/disk.mjs'
import { find, run } from '../../cli/bench/processes.mjs'
import { serve, xferdOf } from '../xferd.mjs'
import { ON_ONE_PROCESSOR } from './one-processor.mjs'

const LARGE_BYTES = 256 << 20
const TREE = { folders: 1, filesPerFolder: 1000, fileBytes: 4096 }
const SYNCED = { folders: 1, filesPerFolder: 100, fileBytes: 4096 }
const GIB = 2 ** 30
/** A sender and a receiver out of step take more calls for the same bytes, up to twice as many; nothing makes them take fewer. */
const LARGE_ROUNDS = 3

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

/** Runs one client against a server of its own. */
async function traced(checkout, folder, root, options, command) {
  const [served, asked] = ['server', 'client'].map((side) => join(folder, `${side}.strace`))
  const single = ['--io-threads', '1', '--workers', '0']
  const { server, address, pid } = await serve(strace(served, checkout), root, ...single, ...options)
  try {
    await run(...strace(asked, checkout), ...command(address), '--json')
  } finally {
    const closed = once(server.child, 'close')
    process.kill(pid, 'SIGTERM')
    await closed
  }
  return { server: callsIn(readFileSync(served, 'utf8')), client: callsIn(readFileSync(asked, 'utf8')) }
}

/** A command that runs `xferd` on one processor and writes down the calls of its threads, with their names. */
function strace(file, checkout) {
  const tracing = ['strace', '-f', '-qq', '--decode-pids=comm', '-o', file]
  return [...ON_ONE_PROCESSOR, ...tracing, ...xferdOf(checkout)]
}

/** How often each call was made by the threads that count. A call that others interrupted has two lines. */
export function callsIn(trace) {
  const calls = new Map()
  for (const [, thread, call] of trace.matchAll(/^\d+<([^>]*)> (\w+)\(/gm)) {
    if (THREADS.test(thread)) calls.set(call, (calls.get(call) ?? 0) + 1)
  }
  return calls
}

function total(calls, pattern = /./) {
  const counted = [...calls].filter(([call]) => pattern.test(call) && !HANDOVERS.test(call))
  return counted.reduce((sum, [, count]) => sum + count, 0)
}
