/** What a process costs, as far as the system tells. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { Cost } from './contender.js'

/** Measures one process over several moves. */
export class Meter {
  readonly #pid: number
  readonly #idleBytes: number | undefined
  #startSeconds: number | undefined

  /** What the process has now counts as idle. */
  constructor(pid: number) {
    this.#pid = pid
    this.#idleBytes = memoryBytes(pid, 'VmRSS')
  }

  /** A move begins. */
  start(): void {
    forgetPeak(this.#pid)
    this.#startSeconds = cpuSeconds(this.#pid)
  }

  /** The move is over. */
  cost(): Cost {
    const now = cpuSeconds(this.#pid)
    const peakBytes = memoryBytes(this.#pid, 'VmHWM')
    return {
      cpuSeconds:
        now !== undefined && this.#startSeconds !== undefined ? now - this.#startSeconds : undefined,
      peakBytes,
      grownBytes:
        peakBytes !== undefined && this.#idleBytes !== undefined
          ? Math.max(0, peakBytes - this.#idleBytes)
          : undefined,
    }
  }
}

/** From the scheduler's nanoseconds: the ticks of `/proc/PID/stat` are a tenth of a short transfer. */
function cpuSeconds(pid: number): number | undefined {
  return ifTold(() => {
    const threads = readdirSync(`/proc/${pid}/task`)
    const spent = threads.map((thread) => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8'))
    return spent.reduce((sum, line) => sum + Number.parseInt(line, 10), 0) / 1e9
  })
}

function memoryBytes(pid: number, line: 'VmRSS' | 'VmHWM'): number | undefined {
  return ifTold(() => {
    const kib = new RegExp(`^${line}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kib === undefined ? undefined : Number(kib) * 1024
  })
}

/** Where that is not allowed the peak is that of the process's whole life. */
function forgetPeak(pid: number): void {
  ifTold(() => writeFileSync(`/proc/${pid}/clear_refs`, '5'))
}

function ifTold<T>(ask: () => T): T | undefined {
  try {
    return ask()
  } catch {
    return undefined
  }
}
