// Instructions and allocated bytes of the scenarios, counted by valgrind. Starting and stopping a scenario, and what it
// prepares, disappears: each is run for a few times and for many, and what counts is the difference.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { find, run } from '../../cli/bench/processes.mjs'
import { ON_ONE_PROCESSOR } from './one-processor.mjs'

const FEW = 2
/** How many times more, and how many things are done each time. */
const SCENARIOS = {
  wire_encode: { times: 1000, things: 1 },
  wire_decode: { times: 100, things: 1 },
  session_put: { times: 200, things: 1 },
  kv_set: { times: 1000, things: 1 },
  kv_get: { times: 1000, things: 1 },
  kv_get_pipelined: { times: 1000, things: 16 },
  push_64_kib: { times: 50, things: 1 },
  pull_64_kib: { times: 50, things: 1 },
  push_8_mb: { times: 5, things: 1 },
  push_tree: { times: 15, things: 200 },
}
/** Those whose allocations are counted: what a file costs on its way through both sides. */
const ALLOCATING = ['push_64_kib', 'pull_64_kib', 'push_tree']

const TOOLS = {
  instructions: {
    options: ['--tool=callgrind', '--callgrind-out-file=/dev/null'],
    scenarios: Object.keys(SCENARIOS),
    read: instructionsIn,
  },
  // dhat counts every allocation of every thread, which callgrind does not, and needs no allocator of ours.
  allocated_bytes: {
    options: ['--tool=dhat', '--dhat-out-file=/dev/null'],
    scenarios: ALLOCATING,
    read: allocatedBytesIn,
  },
}

/** Why nothing can be counted, or `undefined`. */
export function missing() {
  return find('valgrind') ? undefined : 'valgrind is not installed'
}

/** All threads stand still under valgrind while one waits for io_uring (3.19). */
const NO_URING = 'XFERD_BACKEND=mio'

/** The figures by metric, one for each thing done. `program` is the scenarios' executable. */
export async function count(program) {
  const figures = {}
  for (const [kind, tool] of Object.entries(TOOLS)) {
    for (const name of tool.scenarios) {
      const { times, things } = SCENARIOS[name]
      const few = await runOnce(program, tool, name, FEW)
      const many = await runOnce(program, tool, name, FEW + times)
      figures[`${kind}.${name}`] = (many - few) / (times * things)
    }
  }
  return figures
}

async function runOnce(program, { options, read }, name, times) {
  const folder = mkdtempSync(join(tmpdir(), 'xferd-scenario-'))
  try {
    // There, and in the order of their waiting, threads take turns in almost the same way every time.
    const valgrind = ['env', NO_URING, 'valgrind', '--fair-sched=try', ...options]
    const { stderr } = await run(...ON_ONE_PROCESSOR, ...valgrind, program, name, `${times}`, folder)
    return read(stderr)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** From what callgrind says at its end. */
export function instructionsIn(report) {
  return numberIn(report, /^==\d+== Collected : (\d+)/m)
}

/** From what dhat says at its end. */
export function allocatedBytesIn(report) {
  return numberIn(report, /^==\d+== Total: +([\d,]+) bytes/m)
}

function numberIn(report, pattern) {
  const found = pattern.exec(report)
  if (!found) throw new Error(`valgrind did not say what was asked for:\n${report}`)
  return Number(found[1].replaceAll(',', ''))
}
